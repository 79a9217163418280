package ui_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"fusillade/internal/testenv"
)

var screenshots = flag.String("screenshots", "", "write pictures of the pages into this directory, such as ../../docs/ui")

// chromium returns the browser that the tests drive.
func chromium(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it drives a browser")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium was found: the dashboard is not tested. Install it, as by apt-get install chromium, or leave this test out with -short")
	return ""
}

// browser is a tab of a browser of its own.
type browser struct {
	*world
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the page complained about
	ignored  []string // parts of what it may complain about
}

func newBrowser(t *testing.T, w *world) *browser {
	t.Helper()
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1280, 900),
		chromedp.UserDataDir(t.TempDir()))...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	b := &browser{world: w, ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	messages := chromedp.Console(ctx)
	go func() { // ends with the tab
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.Source == "security" {
				b.complain(fmt.Sprintf("the console has %s: %s %s", m.Type, m.Text, m.URL))
			}
		}
	}()
	requests := chromedp.Events(ctx, network.RequestWillBeSent)
	go func() { // ends with the tab
		for e, err := range requests {
			if err != nil {
				return
			}
			if url := e.Request.URL; !strings.HasPrefix(url, w.url) && !strings.HasPrefix(url, "about:") && !strings.HasPrefix(url, "data:") {
				b.complain("a request was sent to " + url)
			}
		}
	}()
	dialogs := chromedp.Events(ctx, page.JavascriptDialogOpening)
	go func() { // ends with the tab
		for e, err := range dialogs {
			if err != nil {
				return
			}
			b.complain("there was a dialog: " + e.Message)
			_ = chromedp.Do(ctx, command(page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}))
		}
	}()
	b.do(command(network.Enable, network.EnableParams{}))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Error(p)
		}
	})
	return b
}

// command sends a command of the browser's protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

func (b *browser) complain(problem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.ignored {
		if strings.Contains(problem, part) {
			return
		}
	}
	b.problems = append(b.problems, problem)
}

// expect has the page's complaints with this part be no problem.
func (b *browser) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ignored = append(b.ignored, part)
}

// do makes actions in turn.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	b.still(func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// evaluate returns the value of an expression.
func evaluate[T any](b *browser, expression string, options ...chromedp.EvaluateOption) (value T) {
	b.T.Helper()
	b.still(func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, options...))
		return err
	})
	return value
}

// still does something with a page that stands still: once more if the page, or the
// element it is about, was replaced meanwhile.
func (b *browser) still(act func(context.Context) error) {
	b.T.Helper()
	until(b.T, "the page stands still", func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, testenv.Patience)
		defer cancel()
		err := act(ctx)
		if err != nil && !strings.Contains(err.Error(), "(-32000)") { // there is no such node, or page, any more
			b.T.Fatal(err)
		}
		return err == nil
	})
}

func (b *browser) open(path string) {
	b.T.Helper()
	b.do(chromedp.Navigate(b.url+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// text is what the page shows.
func (b *browser) text() string {
	b.T.Helper()
	return evaluate[string](b, `document.body ? document.body.innerText : ""`)
}

// shows waits until the page shows some texts.
func (b *browser) shows(texts ...string) {
	b.T.Helper()
	for _, text := range texts {
		until(b.T, fmt.Sprintf("the page shows %q", text), func() bool { return strings.Contains(b.text(), text) })
	}
}

// click clicks on what has this text: a button or a link.
func (b *browser) click(text string) {
	b.T.Helper()
	b.do(chromedp.Click(chromedp.Search(fmt.Sprintf(`//main//*[self::button or self::a][normalize-space()=%q] | //header//*[self::button or self::a][normalize-space()=%q]`, text, text))))
}

func (b *browser) signIn(key string) {
	b.T.Helper()
	b.open("/ui/sign-in")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), key))
	b.click("Sign in")
	b.shows("Overview")
}

var axe = sync.OnceValue(func() string {
	script, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		panic(err)
	}
	return string(script)
})

// accessible checks the page as it is against axe-core's rules, and that nothing
// reaches beyond its width.
func (b *browser) accessible(what string) {
	b.T.Helper()
	evaluate[int](b, axe()+";0")
	raw := evaluate[string](b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) => ({id: v.id, impact: v.impact, help: v.help, at: v.nodes.map((n) => n.html.slice(0, 200) + " " + n.failureSummary)}))))`,
		chromedp.EvalAwaitPromise)
	wide := evaluate[bool](b, `document.documentElement.scrollWidth > innerWidth`)
	var violations []struct {
		ID, Impact, Help string
		At               []string
	}
	if err := json.Unmarshal([]byte(raw), &violations); err != nil {
		b.T.Fatal(err)
	}
	for _, v := range violations {
		b.T.Errorf("%s: axe finds %s, %s: %s\n%s", what, v.Impact, v.ID, v.Help, strings.Join(v.At, "\n"))
	}
	if wide {
		b.T.Errorf("%s is wider than the screen", what)
	}
}

// looks are what the pages are looked at in.
var looks = []struct {
	name          string
	width, height int64
	scheme        string
}{{"wide, light", 1280, 900, "light"}, {"phone, dark", 360, 740, "dark"}}

// look has the page looked at on a screen of this size, in this scheme of colors.
func (b *browser) look(width, height int64, scheme string) {
	b.T.Helper()
	b.do(command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}))
}

// everyLook checks a page in each look.
func (b *browser) everyLook(path string) {
	b.T.Helper()
	for _, look := range looks {
		b.look(look.width, look.height, look.scheme)
		b.open(path)
		b.accessible(path + ", " + look.name)
	}
	b.look(1280, 900, "light")
}

// picture writes a picture of the page, if asked to.
func (b *browser) picture(name, path string, width int64, scheme string) {
	b.T.Helper()
	if *screenshots == "" {
		return
	}
	b.look(width, 800, scheme)
	b.open(path)
	until(b.T, "the plots are drawn", func() bool {
		return evaluate[bool](b, `Array.from(document.querySelectorAll(".canvas")).every((c) => c.textContent !== "")`)
	})
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.T.Fatal(err)
	}
	b.look(1280, 900, "light")
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), smaller(b.T, png), 0o644); err != nil {
		b.T.Fatal(err)
	}
}
