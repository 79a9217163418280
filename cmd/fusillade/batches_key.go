package main

import "os"

// batchKeyFlag names the API key for the model endpoint that a batch brings.
type batchKeyFlag struct {
	APIKeyEnv string `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds an API key for the model endpoint: the batch's requests are called with it instead of the server's."`
}

// key reads it; empty: none is given.
func (f batchKeyFlag) key() (string, error) {
	if f.APIKeyEnv == "" {
		return "", nil
	}
	return checkKey(os.Getenv(f.APIKeyEnv), "the environment variable "+f.APIKeyEnv)
}
