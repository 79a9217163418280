package cli

import (
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// screen is a terminal that remembers what was drawn.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

var escape = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// frames are the lines that were drawn.
func (s *screen) frames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.FieldsFunc(escape.ReplaceAllString(s.text.String(), ""), func(r rune) bool { return r == '\r' || r == '\n' })
}

func newScreen(columns int) (*screen, *Progress) {
	s := new(screen)
	return s, &Progress{terminal: &Terminal{Err: s}, mode: ProgressBar, columns: func() int { return columns }}
}

// The last of several quick updates is shown, also if nothing follows.
func TestProgressShowsTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newScreen(120)
		defer p.End()
		for done := int64(1); done <= 150; done++ {
			p.Update(300, done, "failed 0")
			time.Sleep(time.Millisecond) //nolint:forbidigo // in fake time
		}
		time.Sleep(barInterval) //nolint:forbidigo // in fake time
		synctest.Wait()
		frames := s.frames()
		if len(frames) == 0 || !strings.Contains(frames[len(frames)-1], "150/300") {
			t.Errorf("the last frame is %q", frames[max(len(frames)-1, 0):])
		}
		if len(frames) > 20 {
			t.Errorf("%d frames of 150 quick updates", len(frames))
		}
	})
}

// No frame is wider than the terminal, whatever there is to say.
func TestProgressFitsTheTerminal(t *testing.T) {
	for _, columns := range []int{1, 20, 40, 50, 79, 80, 100, 132} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newScreen(columns)
			for done := int64(0); done <= 400; done += 7 {
				p.Update(400, done, "failed 1, in flight 15, retried 120 (upstream answered with status 404 and much more to say of it)")
				time.Sleep(barInterval) //nolint:forbidigo // in fake time
			}
			p.End()
			for _, frame := range s.frames() {
				if n := utf8.RuneCountInString(frame); n >= columns && n > 0 {
					t.Errorf("%d columns of %d: %q", n, columns, frame)
				}
			}
		})
	}
}

// While nothing moves the bar says so: the rate sinks and the time left is
// unknown.
func TestProgressOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newScreen(100)
		defer p.End()
		p.Update(300, 0, "failed 0")
		time.Sleep(time.Second) //nolint:forbidigo // in fake time
		p.Update(300, 100, "failed 0")
		time.Sleep(2 * rateWindow) //nolint:forbidigo // in fake time
		synctest.Wait()
		frames := s.frames()
		if !slices.ContainsFunc(frames, func(f string) bool { return strings.Contains(f, "100/300") && strings.Contains(f, "/s, 2s left") }) {
			t.Errorf("while it moved: %q", frames)
		}
		if last := frames[len(frames)-1]; !strings.Contains(last, "100/300, 0/s, unknown left") {
			t.Errorf("the last frame is %q", last)
		}
	})
}

// A program reads one object a second, and notes as objects too.
func TestProgressForPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(screen)
		terminal := &Terminal{Err: s, Progress: ProgressJSON}
		p := NewProgress(terminal)
		for done := int64(1); done <= 250; done++ {
			p.Update(300, done, "failed 0")
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in fake time
		}
		p.Notef("a note with \"quotes\"")
		p.End()
		decoder := json.NewDecoder(strings.NewReader(s.text.String()))
		var done []int64
		var notes []string
		for {
			var line struct {
				Note  string   `json:"note"`
				Total int64    `json:"total"`
				Done  int64    `json:"done"`
				Rate  float64  `json:"requests_per_second"`
				Left  *float64 `json:"seconds_left"`
			}
			err := decoder.Decode(&line)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v in %q", err, s.text.String())
			}
			if line.Note != "" {
				notes = append(notes, line.Note)
				continue
			}
			done = append(done, line.Done)
			if len(done) > 1 && (line.Total != 300 || line.Rate != 100 || line.Left == nil) {
				t.Errorf("%+v", line)
			}
		}
		if len(done) != 4 || done[0] != 1 || done[3] != 250 || len(notes) != 1 {
			t.Errorf("done %v, notes %q", done, notes)
		}
	})
}

func TestQuiet(t *testing.T) {
	s := new(screen)
	terminal := &Terminal{Err: s, Quiet: true, Progress: ProgressNone}
	p := NewProgress(terminal)
	p.Update(10, 5, "")
	p.Notef("a note")
	p.End()
	if s.text.Len() > 0 {
		t.Errorf("%q", s.text.String())
	}
}
