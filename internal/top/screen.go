package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"fusillade/client"
	"fusillade/internal/cli"
)

// screen is the state of the terminal. Bubble Tea calls its methods from one
// goroutine; commands get what they need as values.
type screen struct {
	ctx    context.Context
	cfg    Config
	before Snapshot // an earlier look, for rates
	now    Snapshot

	width, height int
	tab           tab
	sortBy        [tabs]int
	cursor        int     // the row that keys act on
	ask           *action // what is done once y is pressed; nil: nothing is asked
	note          string  // what the last action or look came to
}

// action is something that a key does to the selected row.
type action struct {
	question string
	did      string
	run      func(context.Context, *client.Client) error
}

// Messages.
type (
	lookMsg struct {
		snapshot Snapshot
		err      error
		extra    bool // there is another look to come in any case
	}
	tickMsg struct{}
	didMsg  struct {
		did string
		err error
	}
)

func (s *screen) Init() tea.Cmd { return s.tick() }

func (s *screen) tick() tea.Cmd {
	return tea.Tick(s.cfg.Refresh, func(time.Time) tea.Msg { return tickMsg{} })
}

func (s *screen) look(extra bool) tea.Cmd {
	ctx, api := s.ctx, s.cfg.API
	return func() tea.Msg {
		snapshot, err := Read(ctx, api)
		return lookMsg{snapshot, err, extra}
	}
}

func (s *screen) do(a *action) tea.Cmd {
	ctx, api := s.ctx, s.cfg.API
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		return didMsg{a.did, a.run(ctx, api)}
	}
}

// Update takes a key, a look, or the size of the terminal.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tickMsg:
		return s, s.look(false)
	case lookMsg:
		if msg.err != nil {
			s.note = "the server is away, trying again: " + msg.err.Error()
		} else {
			if strings.HasPrefix(s.note, "the server is away") {
				s.note = ""
			}
			s.before, s.now = s.now, msg.snapshot
		}
		if !msg.extra {
			return s, s.tick()
		}
	case didMsg:
		s.note = msg.did
		if msg.err != nil {
			s.note = msg.err.Error()
		}
		return s, s.look(true)
	case tea.KeyPressMsg:
		return s, s.key(msg.String())
	}
	return s, nil
}

func (s *screen) key(key string) tea.Cmd {
	if s.ask != nil {
		asked := s.ask
		if s.ask = nil; key == "y" || key == "Y" {
			return s.do(asked)
		}
		s.note = "left as it is"
		return nil
	}
	s.note = ""
	switch key {
	case "q", "ctrl+c", "esc":
		return tea.Quit
	case "tab", "right":
		s.tab, s.cursor = (s.tab+1)%tabs, 0
	case "shift+tab", "left":
		s.tab, s.cursor = (s.tab+tabs-1)%tabs, 0
	case "up", "k":
		s.cursor = max(s.cursor-1, 0)
	case "down", "j":
		s.cursor = min(s.cursor+1, max(s.count()-1, 0))
	case "home", "g":
		s.cursor = 0
	case "end", "G":
		s.cursor = max(s.count()-1, 0)
	case "s":
		s.sortBy[s.tab] = (s.sortBy[s.tab] + 1) % s.columns()
	default:
		a, refusal := s.action(key)
		s.ask, s.note = a, refusal
	}
	return nil
}

// action is what a key does to the selected row, or why it does nothing.
func (s *screen) action(key string) (a *action, refusal string) {
	r := s.rates()
	switch {
	case s.tab == models && strings.Contains("prl", key):
		list := sorted(s.now.Models, r, modelColumns[s.sortBy[models]])
		if s.cursor >= len(list) {
			return nil, "there is no model"
		}
		return modelAction(key, list[s.cursor])
	case s.tab == batches && key == "c":
		list := sorted(s.now.Batches, r, batchColumns[s.sortBy[batches]])
		if s.cursor >= len(list) {
			return nil, "there is no batch"
		}
		b := list[s.cursor]
		if b.Ended() {
			return nil, b.ID + " has ended"
		}
		return &action{
			question: fmt.Sprintf("Cancel %s, with %d of %d requests done?", b.ID, done(b), b.Counts.Total), did: b.ID + " is cancelled",
			run: func(ctx context.Context, api *client.Client) error {
				_, err := api.CancelBatch(ctx, b.ID)
				return err
			},
		}, ""
	}
	return nil, ""
}

func modelAction(key string, m client.ModelStatus) (a *action, refusal string) {
	paused := key == "p"
	switch {
	case key == "l" && len(m.Holds) == 0:
		return nil, m.ID + " is not held"
	case key == "l":
		return &action{
			question: fmt.Sprintf("Lift the holds of %s?", m.ID), did: "the holds of " + m.ID + " are lifted",
			run: func(ctx context.Context, api *client.Client) error {
				_, err := api.LiftHolds(ctx, m.ID, "")
				return err
			},
		}, ""
	case paused == m.Paused:
		return nil, fmt.Sprintf("%s is %s already", m.ID, map[bool]string{true: "paused", false: "running"}[paused])
	}
	verb, did := "Pause", " is paused"
	if !paused {
		verb, did = "Resume", " goes on"
	}
	return &action{
		question: fmt.Sprintf("%s %s in the whole cluster?", verb, m.ID), did: m.ID + did,
		run: func(ctx context.Context, api *client.Client) error {
			_, err := api.ChangeModel(ctx, m.ID, client.ModelChange{Paused: &paused})
			return err
		},
	}, ""
}

func (s *screen) rates() rates { return rate(s.before, s.now) }

func (s *screen) count() int {
	return [tabs]int{len(s.now.Models), len(s.now.Batches), len(s.now.Daemons)}[s.tab]
}

func (s *screen) columns() int {
	return [tabs]int{len(modelColumns), len(batchColumns), len(daemonColumns)}[s.tab]
}

// rows are the lines of the list that is shown, its head first.
func (s *screen) rows() []string {
	r, by := s.rates(), s.sortBy[s.tab]
	switch s.tab {
	case batches:
		return table(sorted(s.now.Batches, r, batchColumns[by]), r, batchColumns, s.width)
	case daemons:
		return table(sorted(s.now.Daemons, r, daemonColumns[by]), r, daemonColumns, s.width)
	}
	return table(sorted(s.now.Models, r, modelColumns[by]), r, modelColumns, s.width)
}

const (
	bold    = "\x1b[1m"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
)

// roomy is the least height at which what needs a hand may take two lines each.
const roomy = 20

var keysOf = [tabs]string{"p pause  r resume  l lift  ", "c cancel  ", ""}

// View draws the screen: the head, the list, and a line of keys at the bottom.
func (s *screen) View() tea.View {
	var lines []string
	for i, line := range head(s.now, s.rates(), s.cfg.Server) {
		line = cli.Plain(line)
		switch {
		case i == 0:
			lines = append(lines, bold+fit(line, s.width)+plain)
		case s.height < roomy:
			lines = append(lines, fit(line, s.width))
		default:
			lines = append(lines, wrap(line, s.width)...)
		}
	}
	names := make([]string, tabs)
	for i, name := range tabNames {
		names[i] = name
		if tab(i) == s.tab {
			names[i] = reverse + name + plain
		}
	}
	lines = append(lines, "", strings.Join(names, "  "))
	rows := s.rows()
	lines = append(lines, bold+rows[0]+plain)
	s.cursor = min(s.cursor, max(s.count()-1, 0))
	room := max(s.height-len(lines)-2, 1)
	first := max(s.cursor-room+1, 0)
	for i := first; i < min(first+room, len(rows)-1); i++ {
		line := rows[i+1]
		if i == s.cursor {
			line = reverse + line + plain
		}
		lines = append(lines, line)
	}
	for len(lines) < s.height-2 {
		lines = append(lines, "")
	}
	foot := s.note
	if s.ask != nil {
		foot = s.ask.question + " y/n"
	}
	keys := fmt.Sprintf("q quit  tab list  ↑↓ select  s sort (%s)  %s", s.sortName(), keysOf[s.tab])
	lines = append(lines, fit(cli.Plain(foot), s.width), fit(keys, s.width))
	v := tea.NewView(strings.Join(lines[:min(len(lines), max(s.height, 1))], "\n"))
	v.AltScreen = true
	return v
}

func (s *screen) sortName() string {
	by := s.sortBy[s.tab]
	switch s.tab {
	case batches:
		return batchColumns[by].name
	case daemons:
		return daemonColumns[by].name
	}
	return modelColumns[by].name
}
