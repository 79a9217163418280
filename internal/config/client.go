package config

// Client is what the commands read that talk to a server's API.
type Client struct {
	Server HTTPURL `envconfig:"FUSILLADE_SERVER" default:"http://127.0.0.1:8080" allowed:"a URL such as http://127.0.0.1:8080" desc:"server that the commands files, batches, models and daemons talk to"`
	APIKey Secret  `envconfig:"FUSILLADE_API_KEY" allowed:"printable ASCII without blanks" desc:"the caller's key for it; empty: none is sent"`
}

func (c *Client) required() []string { return nil }
func (c *Client) check(*problems)    {}
