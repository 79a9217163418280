package mock

type moderation struct {
	ID      string             `json:"id"`
	Model   string             `json:"model"`
	Results []moderationResult `json:"results"`
}

type moderationResult struct {
	Flagged    bool                `json:"flagged"`
	Categories map[string]bool     `json:"categories"`
	Scores     map[string]float64  `json:"category_scores"`
	InputTypes map[string][]string `json:"category_applied_input_types"`
}

var moderationCategories = []string{
	"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
	"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
}

// moderation finds nothing in any input.
func (c *call) moderation() moderation {
	m := moderation{ID: "modr-" + c.id(), Model: c.Model}
	for range c.inputs() {
		result := moderationResult{Categories: map[string]bool{}, Scores: map[string]float64{}, InputTypes: map[string][]string{}}
		for _, category := range moderationCategories {
			result.Categories[category], result.Scores[category], result.InputTypes[category] = false, 0.001, []string{"text"}
		}
		m.Results = append(m.Results, result)
	}
	return m
}
