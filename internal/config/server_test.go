package config

import "testing"

func TestKeysAreNeeded(t *testing.T) {
	for _, tt := range []struct {
		listen, auth    string
		keys, reachable bool
	}{
		{"127.0.0.1:8080", "", false, false},
		{"127.8.9.1:0", "", false, false},
		{"[::1]:8080", "", false, false},
		{"localhost:8080", "", false, false},
		{":8080", "", true, true},
		{"0.0.0.0:8080", "", true, true},
		{"[::]:8080", "", true, true},
		{"10.1.2.3:8080", "", true, true},
		{"localhost.example.com:8080", "", true, true},
		{"127.0.0.1:8080", "keys", true, false},
		{"0.0.0.0:8080", "none", false, true},
	} {
		t.Run(tt.listen+" "+tt.auth, func(t *testing.T) {
			setenv(t, database, broker, "FUSILLADE_LISTEN_ADDR="+tt.listen, "FUSILLADE_API_AUTH="+tt.auth)
			var cfg API
			if err := Load(&cfg); err != nil {
				t.Fatal(err)
			}
			if got := cfg.NeedsKeys(); got != tt.keys {
				t.Errorf("keys are needed: %t, want %t", got, tt.keys)
			}
			if got := cfg.Loopback(); got == tt.reachable {
				t.Errorf("loopback: %t", got)
			}
		})
	}
}

func TestAPIRefusesBadValues(t *testing.T) {
	for _, tt := range []struct{ variable, value, problem string }{
		{"LISTEN_ADDR", "", "is empty"},
		{"LISTEN_ADDR", "8080", "not host:port"},
		{"API_AUTH", "maybe", "allowed: keys or none"},
		{"MAX_ACTIVE_BATCHES", "0", "or none"},
		{"MAX_QUEUED_REQUESTS", "-1", "or none"},
		{"MAX_FILE_REQUESTS", "0", "out of range"},
		{"MAX_FILE_BYTES", "1GB", "not a whole number"},
		{"MAX_REQUEST_BYTES", "0", "out of range"},
		{"MAX_UPLOADS", "0", "out of range"},
		{"MAX_UPLOADS_PER_OWNER", "0", "out of range"},
		{"MAX_DOWNLOADS_PER_OWNER", "17", "out of range"},
		{"MAX_EVENT_STREAMS_PER_OWNER", "257", "out of range"},
		{"UPLOAD_TIMEOUT_MS", "10", "1000"},
		{"API_HOSTS", "a.example,b c", "no host name"},
		{"API_HOSTS", "a.example,", "no host name"},
		{"API_HOSTS", "*", "no host name"},
		{"MAX_MODELS", "0", "or none"},
		{"MODELS_ALLOWED", "a,,b", "empty element, number 2"},
		{"API_HOSTS", "http://a.example", "no host name"},
	} {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			setenv(t, database, broker, "FUSILLADE_"+tt.variable+"="+tt.value)
			assertRefused(t, Load(new(API)), "FUSILLADE_"+tt.variable, tt.problem)
		})
	}
}

func TestEndpointsAllowed(t *testing.T) {
	t.Parallel()
	var paths RequestPaths
	if err := paths.Set(" /v1/embeddings, /score"); err != nil || paths.String() != "/v1/embeddings,/score" {
		t.Errorf("%v, %v", paths, err)
	}
	if err := paths.Set(" "); err != nil || len(paths) != 0 {
		t.Errorf("%v, %v", paths, err)
	}
	for text, want := range map[string]string{
		"v1/x": "is not a path", "/v1/x,": "number 2, which is not a path", "/a?b": "is not a path", "/a/../b": "is not a path", "/": "is not a path", "/a,/a": "twice", "/a b": "is not a path",
	} {
		assertSet(t, new(RequestPaths), text, want)
	}
}
