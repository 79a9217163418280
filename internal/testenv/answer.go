package testenv

import "encoding/json"

// ChatAnswer is the body of a chat completion whose message is the content.
func ChatAnswer(content string) string {
	quoted, err := json.Marshal(content)
	if err != nil {
		panic(err)
	}
	return `{"choices":[{"message":{"content":` + string(quoted) + `}}]}`
}
