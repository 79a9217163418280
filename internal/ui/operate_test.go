package ui_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// confirm answers a question with yes, which the page must ask in these words.
func (b *browser) confirm(question, verb string) {
	b.T.Helper()
	b.shows("Please confirm", question)
	b.accessible("the question: " + question)
	b.click(verb)
}

// fill writes into a field, which it empties first.
func (b *browser) fill(selector, text string) {
	b.T.Helper()
	b.do(chromedp.SetValue(chromedp.CSS(selector), text))
}

// An operator pauses a model, resumes it where the overview says that it is needed,
// changes its limits, and lifts what holds it; all by clicking.
func TestModelsStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	alice := w.signedIn(w.Key("alice", false))
	w.finished(alice.batch(lines(3, "gpt", "hello"), nil))
	b := newBrowser(t, w)
	b.signIn(w.Key("root", true))

	b.click("Models")
	b.shows("gpt", "open")
	b.click("Pause")
	b.confirm("Pause gpt? Calls in flight end", "Pause")
	b.shows("Done: paused.", "paused")
	waiting := alice.batch(lines(40, "gpt", "hello"), nil)
	b.click("Overview")
	b.shows("The model is paused, and 40 requests wait for it.")
	b.accessible("the overview of what needs a hand")
	b.click("Resume")
	b.shows("Done: resumed.", "Nothing: what is to be called")
	w.finished(waiting)

	b.click("Models")
	b.fill("#limit", "auto:2-70")
	b.fill("#rpm", "6000")
	b.fill("#tpm", "900000")
	b.click("Change")
	b.shows("Done: changed.", "auto 2–70", "requests/min", "tokens/min")
	b.expect("status of 400")
	b.expect("status of 409")
	b.fill("#limit", "many")
	b.click("Change")
	b.shows("Outcome", "gpt: limit must be from 0 to")
	b.accessible("an outcome")
	b.click("Go back")

	refused := alice.batch(lines(60, "refused", "mock:unauthorized"), nil)
	b.click("Overview")
	b.shows("Calls are held")
	b.click("Lift the hold")
	b.shows("Done: lifted.")
	until(t, "the batch goes on", func() bool {
		return w.count(`SELECT count(*) FROM batches WHERE status = 'in_progress'`) == 1
	})

	// The batch of another owner: what is in it is not shown, but it can be ended.
	b.open("/ui/batches/" + refused)
	b.shows("This batch is alice’s", "in_progress")
	if strings.Contains(b.text(), "Download") {
		t.Error("an operator may download what is an owner's")
	}
	b.click("Cancel")
	b.confirm("Cancel "+refused, "Cancel")
	b.shows("Done: canceled.", "cancelled")
}

// An operator cancels, reruns and deletes the batches of owners, several at once.
func TestBulkStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	w.exec(`INSERT INTO models (model, paused) VALUES ('slow', true)`)
	alice, bob := w.signedIn(w.Key("alice", false)), w.signedIn(w.Key("bob", false))
	alice.batch(lines(5, "slow", "hello"), nil)
	bob.batch(lines(6, "slow", "hello"), nil)
	b := newBrowser(t, w)
	b.signIn(w.Key("root", true))
	b.click("Batches")
	b.shows("alice", "bob")
	is := func(status string) {
		t.Helper()
		until(t, "both batches are "+status, func() bool {
			return w.count(`SELECT count(*) FROM batches WHERE deleted_at IS NULL AND status = '`+status+`'`) == 2
		})
		b.shows(status)
	}
	for _, step := range []struct{ button, question, verb, done, status string }{
		{"Cancel selected", "Cancel these 2?", "Cancel", "Done: 2 canceled.", "cancelled"},
		{"Rerun selected", "Rerun what did not complete in these 2?", "Rerun", "Done: 2 rerun.", "in_progress"},
	} {
		b.do(chromedp.Click(chromedp.CSS("#select-all")))
		b.click(step.button)
		b.shows("Please confirm")
		b.click("No, go back")
		b.do(chromedp.Click(chromedp.CSS("#select-all")))
		b.click(step.button)
		b.confirm(step.question, step.verb)
		b.shows(step.done)
		is(step.status)
	}
	b.expect("status of 400")
	b.click("Cancel selected")
	b.shows("Nothing was selected. Go back")
	b.accessible("that nothing was selected")
	b.open("/ui/batches?owner=bob")
	b.do(chromedp.Click(chromedp.CSS("#select-all")))
	b.click("Delete selected")
	b.confirm("Delete batch_", "Delete")
	b.shows("Done: deleted.", "No batch fits.")
	if n := w.count(`SELECT count(*) FROM batches WHERE deleted_at IS NULL AND created_by = 'alice'`); n != 1 {
		t.Errorf("alice has %d batches left, want 1", n)
	}
}

// A group of failures is rerun, and what there is to download is downloaded.
func TestFailuresStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	key := w.Key("alice", false)
	alice := w.signedIn(key)
	input := lines(4, "gpt", "hello") + strings.ReplaceAll(lines(3, "gpt", "mock:bad-request"), "request-", "odd-")
	id := alice.batch(input, nil)
	w.finished(id)
	b := newBrowser(t, w)
	b.signIn(key)
	b.open("/ui/batches/" + id)
	b.shows("Failures", "non_retriable_http_status", "odd-")
	b.click("Rerun")
	b.confirm("Rerun the requests of "+id+" that failed this way?", "Rerun")
	b.shows("Done: rerun.")
	until(t, "three requests have new results", func() bool { return w.count(`SELECT count(*) FROM results WHERE seq >= 7`) == 3 })
	w.finished(id)
	b.shows("Download errors")

	dir := t.TempDir()
	b.do(command(cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}))
	file := regexp.MustCompile(`href="(/v1/files/[^"/]+/content)"`)
	for _, link := range []struct {
		text  string
		lines int
	}{{"Download output", 4}, {"Download errors", 3}, {"Download input", 7}} {
		b.click(link.text)
		html := evaluate[string](b, fmt.Sprintf(`Array.from(document.querySelectorAll("main a")).find((a) => a.textContent === %q).outerHTML`, link.text))
		found := file.FindStringSubmatch(html)
		if found == nil {
			t.Fatalf("%s is no link to a file: %s", link.text, html)
		}
		want := alice.get(found[1])
		until(t, link.text+" has been done", func() bool {
			files, err := os.ReadDir(dir)
			return err == nil && slices.ContainsFunc(files, func(f os.DirEntry) bool {
				got, err := os.ReadFile(filepath.Join(dir, f.Name()))
				return err == nil && string(got) == want.body
			})
		})
		if n := strings.Count(want.body, "\n"); n != link.lines {
			t.Errorf("%s has %d lines, want %d", link.text, n, link.lines)
		}
	}
}

// A key is made and revoked, an owner weighed, an event delivered again and a webhook
// deleted.
func TestOperatorsStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Work(mock.Settings{})
	alice := w.signedIn(w.Key("alice", false))
	w.finished(alice.batch(lines(1, "gpt", "hello"), nil))
	w.exec(`INSERT INTO webhooks (id, owner, url, secret) VALUES ('00000000-0000-0000-0000-000000000001', 'alice', 'https://hooks.example.com/fusillade', '\x01')`)
	w.exec(`INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id, attempts, next_attempt_at, last_status, last_error)
	        SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'batch.completed', id, 9, NULL, 503, 'it answered with status 503' FROM batches`)
	b := newBrowser(t, w)
	b.signIn(w.Key("root", true))

	b.click("Keys")
	b.fill("#id", "carol")
	b.fill("#name", "nightly")
	b.click("Create")
	b.shows("The new key, which is shown this once: fsl-")
	b.accessible("the new key")
	carol := &client{world: w, http: &http.Client{Timeout: testenv.Patience}, base: w.url, key: regexp.MustCompile(`fsl-[\w-]{43}`).FindString(b.text())}
	if a := carol.get("/v1/batches"); a.status != http.StatusOK {
		t.Errorf("the new key is answered with %d", a.status)
	}
	b.click("Go back")
	b.shows("carol", "nightly")
	if strings.Contains(b.text(), carol.key) {
		t.Error("the key is shown for the second time")
	}
	b.click("Revoke") // the newest comes first
	b.confirm("Revoke the key", "Revoke")
	b.shows("Done: revoked.")
	if a := carol.get("/v1/batches"); a.status != http.StatusUnauthorized {
		t.Errorf("the revoked key is answered with %d", a.status)
	}

	b.click("Owners")
	b.shows("alice")
	b.fill("input[name=weight]", "2.5")
	b.click("Set")
	b.shows("Done: changed.", "set")
	if n := w.count(`SELECT count(*) FROM users WHERE name = 'alice' AND weight = 2.5`); n != 1 {
		t.Error("alice's weight was not set")
	}
	b.expect("status of 409")
	b.fill("input[name=weight]", "heavy")
	b.click("Set")
	b.shows("The weight must be a number")
	b.click("Go back")

	b.click("Webhooks")
	b.shows("hooks.example.com", "status 503")
	b.click("Send again")
	b.shows("Done: to be sent again.")
	until(t, "it was tried again", func() bool {
		return w.count(`SELECT count(*) FROM webhook_deliveries WHERE last_error NOT LIKE '%503'`) == 1
	})
	b.click("Delete")
	b.confirm("Delete the webhook", "Delete")
	b.shows("Done: deleted.", "There is no webhook.")
}

// A file is dropped on the page: one with bad lines shows each of them, and a good one
// is there.
func TestDropStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := newBrowser(t, w)
	b.signIn(w.Key("alice", false))
	b.click("Files")
	b.shows("Upload files")
	dir := t.TempDir()
	drop := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		at := evaluate[[]float64](b, `(() => { const box = document.getElementById("drop").getBoundingClientRect(); return [box.x + box.width / 2, box.y + 20]; })()`)
		data := &input.DragData{Items: []*input.DragDataItem{}, Files: []string{path}, DragOperationsMask: 1}
		for _, step := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
			b.do(command(input.DispatchDragEvent, input.DispatchDragEventParams{Type: step, X: at[0], Y: at[1], Data: data}))
		}
	}
	b.expect("status of 400")
	drop("bad.jsonl", "nonsense\n"+lines(2, "gpt", "hello")+`{"custom_id":"<b>x</b>"}`+"\n")
	b.shows("The file was refused", "line 1", "line 4")
	if problems := evaluate[int](b, `document.querySelectorAll("#upload-problems li").length`); problems < 2 {
		t.Errorf("%d bad lines are listed, want each", problems)
	}
	b.accessible("bad lines")
	drop("good.jsonl", lines(3, "gpt", "hello"))
	b.shows("good.jsonl", "Begin")
	b.accessible("files")
}
