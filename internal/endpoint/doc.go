// Package endpoint says how a model endpoint wants to be spoken to, where that
// is not as OpenAI's: which header carries the API key, which other headers it
// asks for, what its paths look like, what it calls a model, and at which other
// URLs it can be reached too.
//
// Options come from the environment and from what operators set for a model.
// What is no secret of them is stored as the text that Encode returns; values of
// headers, which may be secrets, are stored encrypted.
package endpoint
