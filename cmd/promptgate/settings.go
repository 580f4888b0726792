package main

import (
	"fmt"
	"os"

	"github.com/promptgate/promptgate/configs"
)

// settings are the flags of every command that works on the server's side. Each is a setting of the configuration too, under the
// name in its config tag.
type settings struct {
	Config   string  `help:"YAML file with the configuration (see configs/example.yaml)." env:"PROMPTGATE_CONFIG" type:"path" placeholder:"FILE"`
	Data     *string `help:"Folder of the SQLite files, the master key and the spool." placeholder:"DIR"`
	LogLevel *string `help:"debug, info, warn or error." placeholder:"LEVEL"`
}

// load reads the configuration. A wrong one is reported whole and is a usage error.
func (s settings) load(more map[string]any) (configs.Config, error) {
	flags := map[string]any{}
	put(flags, "data", s.Data)
	put(flags, "log_level", s.LogLevel)
	for path, v := range more {
		flags[path] = v
	}
	c, err := configs.FromProcess(s.Config, flags)
	if err != nil {
		return c, errUsage{fmt.Errorf("the configuration is wrong:\n%w", err)}
	}
	return withEnvProvider(c), nil
}

func put[T any](flags map[string]any, path string, v *T) {
	if v != nil {
		flags[path] = *v
	}
}

// withEnvProvider gives a configuration without providers the one that the environment names as every OpenAI client does, or in demo
// mode the echo.
func withEnvProvider(c configs.Config) configs.Config {
	if len(c.Providers) > 0 {
		return c
	}
	switch key := os.Getenv("OPENAI_API_KEY"); {
	case key != "":
		base := os.Getenv("OPENAI_BASE_URL")
		if base == "" {
			base = "https://api.openai.com/v1"
		}
		c.Providers = []configs.Provider{{Name: "openai", Kind: "openai", BaseURL: base, APIKey: key, AllowPrivate: true}}
	case c.Demo:
		c.Providers = []configs.Provider{{Name: "echo", Kind: "echo"}}
	}
	return c
}
