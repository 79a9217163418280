package cli

import (
	"regexp"
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
	return s, &Progress{terminal: &Terminal{Err: s}, columns: func() int { return columns }}
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
	for _, columns := range []int{80, 100, 132} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newScreen(columns)
			for done := int64(0); done <= 400; done += 7 {
				p.Update(400, done, "failed 1, in flight 15, retried 120 (upstream answered with status 404 and much more to say of it)")
				time.Sleep(barInterval) //nolint:forbidigo // in fake time
			}
			p.End()
			for _, frame := range s.frames() {
				if n := utf8.RuneCountInString(frame); n > columns {
					t.Errorf("%d columns of %d: %q", n, columns, frame)
				}
			}
		})
	}
}
