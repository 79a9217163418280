package batch

// Template is one line of an input file: a request as it will be sent. It
// never changes once its file is stored.
type Template struct {
	Line     int32  // 1-based line number in the file
	CustomID string // unique in its file
	Model    Model
	Method   string
	Path     string // such as /v1/chat/completions
	Body     []byte // the JSON object, byte for byte as it was given
}

// Usage counts the tokens that an upstream reports for one response.
type Usage struct {
	PromptTokens     int64
	CompletionTokens int64
	CachedTokens     int64 // of the prompt
	ReasoningTokens  int64 // of the completion
}

// Result is what a request ended with, as a reader of the output sees it.
type Result struct {
	ID         RequestID
	Seq        int64 // place in the batch's output, 0-based, gapless, in commit order
	CustomID   string
	State      State
	Reason     Reason // empty when completed
	StatusCode int    // of the last response; 0: there was none
	RequestID  string // the upstream's own id of the response
	Body       []byte // of the last response; nil: there was none
	Attempts   int    // calls made, failed ones included
	Detail     string // what went wrong, in words for operators; empty when completed
	Cause      string // what went wrong, in words for the owner; empty when completed
}
