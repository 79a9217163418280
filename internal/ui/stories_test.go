package ui_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

var (
	batchID = regexp.MustCompile(`batch_[0-9a-f]{32}`)
	fileID  = regexp.MustCompile(`file-[0-9a-f]{32}`)
)

// An owner signs in, uploads, begins a batch, sees it move, cancels it, and leaves;
// all by clicking.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	b := newBrowser(t, w)
	b.expect("status of 401")
	b.expect("status of 400")

	b.open("/ui/")
	b.shows("Sign in", "API key")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), "fsl-wrong"))
	b.click("Sign in")
	b.shows("Incorrect API key")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), w.Key("alice", false)+kb.Enter))
	b.shows("Overview", "Nothing: what is to be called")

	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b.click("Files")
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file("bad.jsonl", "nonsense\n"+lines(1, "gpt", "hello")+"{}\n")}))
	b.click("Upload")
	b.shows("The file was refused", "line 1", "line 3")
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file("good.jsonl", lines(20, "gpt", "hello"))}))
	b.click("Upload")
	b.shows("good.jsonl", "Begin")

	// Several at once, of which one is bad; then the page of one, which is deleted after a question.
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file("one.jsonl", lines(3, "gpt", "hello")), file("worse.jsonl", lines(1, "gpt", "hello")+"{}\n"), file("two.jsonl", lines(4, "gpt", "hello"))}))
	b.click("Upload")
	b.shows("2 of 3 files were uploaded", "worse.jsonl: The file was refused", "line 2")
	b.click("Files")
	b.shows("one.jsonl", "two.jsonl", "good.jsonl")
	two := fileID.FindString(b.text())
	b.click(two)
	b.shows("What it asks for", "There is no batch of it yet", "two.jsonl", "Download")
	b.click("Delete")
	b.shows("Please confirm", "Delete "+two)
	b.click("No, go back")
	b.click(two)
	b.click("Delete")
	b.shows("Please confirm")
	b.click("Delete")
	b.shows("Done: deleted.", "one.jsonl")
	if strings.Contains(b.text(), "two.jsonl") {
		t.Error("a file that was deleted is listed")
	}
	one := fileID.FindString(b.text())
	b.click(one)
	b.click("Delete")
	b.shows("Please confirm", "Delete "+one)
	b.click("Delete")
	b.shows("Done: deleted.", "good.jsonl")
	good := fileID.FindString(b.text())
	b.click("Begin")
	b.shows("Done: created.")
	id := batchID.FindString(b.text())
	w.finished(id)
	b.shows("completed", "20 / 20")
	b.click(id)
	b.shows("Usage", "Download output", "Input tokens")
	b.click(good)
	b.shows("Batches of this file", id, "20 / 20")
	b.click(id)
	b.shows("Usage")
	b.click("Requests")
	b.shows("request-1")
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "request-7"+kb.Enter))
	until(t, "one request is listed", func() bool { return strings.Count(b.text(), "request-") == 1 })
	b.click("request-7")
	b.shows("Input", "hello", "Outcome", "choices")

	// A batch that goes on: it moves on the page, and is canceled after a question.
	slow := w.signedIn(w.Key("alice", false))
	w.exec(`INSERT INTO models (model, paused) VALUES ('slow', true) ON CONFLICT (model) DO UPDATE SET paused = true`)
	other := slow.batch(lines(50, "slow", "hello"), nil)
	b.click("Batches")
	b.shows(other)
	b.click(other)
	b.shows("in_progress", "an operator paused the model")
	b.click("Cancel")
	b.shows("Please confirm", "Cancel "+other)
	b.click("No, go back")
	b.shows("in_progress")
	b.click("Cancel")
	b.shows("Please confirm")
	b.click("Cancel")
	b.shows("Done: canceled.", "cancelled")

	// Bulk: both are selected and deleted.
	b.click("Batches")
	b.do(chromedp.Click(chromedp.CSS("#select-all")))
	b.click("Delete selected")
	b.shows("Delete these 2 with all results?")
	b.click("Delete")
	b.shows("Done: 2 deleted.", "There is no batch yet")

	b.click("Sign out")
	b.shows("Sign in")
	b.open("/ui/batches")
	b.shows("Sign in")
}

// What is on the screen changes as things do, without a reload.
func TestLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := newBrowser(t, w)
	key := w.Key("alice", false)
	b.signIn(key)
	c := w.signedIn(key)
	id := c.batch(lines(5, "gpt", "hello"), nil)
	b.shows(id)
	b.click(id)
	b.shows("in_progress", "5")
	w.Work(mock.Settings{})
	b.shows("completed", "Download output")
}

// Names and answers that others choose never run as a script or make elements.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	const evil = `"><img src=x onerror=alert(1)><script>alert(2)</script>{{.}}${7*7}' onmouseover='alert(3)`
	key := w.Key(`al<b>"ice`, true)
	c := w.signedIn(key)
	line := fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":%q}]}}`+"\n", evil, evil, evil)
	id := c.batch(line, map[string]string{"name": evil, "x" + evil[:40]: evil})
	w.finished(id)
	w.exec(`UPDATE results SET body = convert_to($1, 'UTF8')`, evil)
	w.exec(`INSERT INTO webhooks (id, owner, url, secret) VALUES (gen_random_uuid(), $1, $2, '\x01')`, evil, "https://example.com/"+evil)
	w.exec(`INSERT INTO api_keys (id, hash, hint, owner, name) VALUES (gen_random_uuid(), decode(repeat('00', 32), 'hex'), 'fsl-0000', $1, $1)`, evil)
	w.exec(`UPDATE daemons SET hostname = $1`, evil)
	b := newBrowser(t, w)
	b.signIn(key)
	for _, path := range []string{
		"/ui/", "/ui/batches", "/ui/batches?owner=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/ui/batches?find=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/ui/batches/" + id, "/ui/batches/" + id + "/requests",
		"/ui/batches/" + id + "/requests/1", "/ui/files", "/ui/files/" + fileID.FindString(c.get("/ui/batches/"+id).body), "/ui/models", "/ui/daemons", "/ui/keys", "/ui/webhooks", "/ui/owners", "/ui/?did=%3Cscript%3E&n=1",
	} {
		b.open(path)
		elements := evaluate[int](b, `document.querySelectorAll("main img, main script, main b, main [onerror], main [onmouseover]").length`)
		if elements != 0 {
			t.Errorf("%s has %d elements of what others wrote", path, elements)
		}
	}
	b.open("/ui/batches/" + id + "/requests/1")
	b.shows(`<script>alert(2)</script>`)
}

// Each page is right for those who don't see it as a picture, on phones and in the
// dark; and pictures of them are for the documentation.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	answers := mock.Settings{}
	if *screenshots != "" {
		answers.Latency = "uniform:100ms-500ms"
	}
	w.Work(answers)
	key := w.Key("research", true)
	c := w.signedIn(key)
	w.Key("support", false)
	done := c.batch(lines(400, "llama-3.3-70b", "Classify this ticket.")+strings.ReplaceAll(lines(12, "llama-3.3-70b", "mock:400"), "request-", "odd-"), map[string]string{"name": "tickets, November"})
	w.finished(done)
	w.exec(`UPDATE results SET finished_at = now() - interval '40 min' + seq * interval '5 s' + (seq % 37) * interval '0.6 s' WHERE batch_id = (SELECT id FROM batches WHERE metadata ->> 'name' = 'tickets, November')`)
	w.exec(`UPDATE batches SET created_at = now() - interval '42 min' WHERE metadata ->> 'name' = 'tickets, November'`)
	w.exec(`INSERT INTO models (model, paused) VALUES ('qwen-3-32b', true) ON CONFLICT (model) DO UPDATE SET paused = true`)
	c.batch(lines(250, "qwen-3-32b", "Summarize."), map[string]string{"name": "summaries"})
	w.exec(`UPDATE batches SET created_at = now() - interval '2 h', expires_at = now() + interval '3 h' WHERE metadata ->> 'name' = 'summaries'`)
	w.exec(`INSERT INTO webhooks (id, owner, url, secret) VALUES ('00000000-0000-0000-0000-000000000001', 'research', 'https://hooks.example.com/fusillade', '\x01')`)
	w.exec(`INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id, attempts, next_attempt_at, last_status, last_error)
	        SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'batch.completed', id, 3, NULL, 503, 'it answered with status 503' FROM batches`)
	if *screenshots != "" {
		// Something to plot: a batch that goes on for some minutes.
		c.batch(lines(20_000, "llama-3.3-70b", "Classify this ticket."), map[string]string{"name": "tickets, December"})
		testenv.Steadily(t, "there is something to see", func() (int64, bool) {
			n := w.count(`SELECT max(completed) FROM batches`)
			return int64(n), n > 2500
		})
	}
	of := fileID.FindString(c.get("/ui/batches/" + done).body)
	b := newBrowser(t, w)
	b.everyLook("/ui/sign-in")
	b.expect("404")
	b.signIn(key)
	for _, p := range []struct{ name, path string }{
		{"overview", "/ui/"}, {"batches", "/ui/batches"}, {"batch", "/ui/batches/" + done}, {"requests", "/ui/batches/" + done + "/requests?status=failed"},
		{"request", "/ui/batches/" + done + "/requests/1"}, {"files", "/ui/files"}, {"file", "/ui/files/" + of}, {"models", "/ui/models"}, {"daemons", "/ui/daemons"},
		{"keys", "/ui/keys"}, {"webhooks", "/ui/webhooks"}, {"owners", "/ui/owners"}, {"", "/ui/nothing"},
	} {
		b.everyLook(p.path)
		if p.name != "" {
			b.picture(p.name, p.path, 1280, "light")
		}
	}
	b.picture("overview-phone", "/ui/", 390, "dark")
	b.picture("batch-dark", "/ui/batches/"+done, 1280, "dark")

	// By keyboard: the first key leads past the navigation.
	b.open("/ui/")
	b.do(chromedp.KeyEvent(kb.Tab))
	if focused := evaluate[string](b, `document.activeElement.textContent`); focused != "Skip to the content" {
		t.Errorf("the first thing to be focused is %q", focused)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	main := evaluate[bool](b, `document.activeElement.id === "main"`)
	if !main {
		t.Error("the link does not lead to the content")
	}
}
