package mock

import "strings"

const sentence = "the quick brown fox jumps over a lazy watch while several bright parrots watch from " +
	"their branch and wonder which of these many words will come next in this answer that nobody reads"

// words is the text that answers are cut from.
type words struct {
	perAnswer int
	corpus    string
	// starts are where the first words begin, ends where an answer that begins
	// there ends.
	starts, ends []int
}

func newWords(perAnswer int) *words {
	vocabulary := strings.Fields(sentence)
	w := &words{perAnswer: perAnswer}
	var corpus strings.Builder
	for i := range len(vocabulary) + perAnswer {
		if i < len(vocabulary) {
			w.starts = append(w.starts, corpus.Len())
		}
		corpus.WriteString(vocabulary[i%len(vocabulary)])
		if i >= perAnswer-1 && len(w.ends) < len(vocabulary) {
			w.ends = append(w.ends, corpus.Len())
		}
		corpus.WriteByte(' ')
	}
	w.corpus = corpus.String()
	return w
}

// text names the custom id, so that a test can tell whose answer it is. Another
// choice has another text.
func (w *words) text(c *call, choice int) string {
	i := (c.draw.perID(forText) + uint64(choice)) % uint64(len(w.starts))
	text := w.corpus[w.starts[i]:w.ends[i]]
	if c.customID == "" {
		return text
	}
	return "Answer to " + c.customID + ": " + text
}
