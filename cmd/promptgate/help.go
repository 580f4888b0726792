package main

import (
	"embed"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/promptgate/promptgate/configs"
)

// manual holds the help topics, one Markdown file each; the first line is the title.
//
//go:embed manual/*.md
var manual embed.FS

type helpCmd struct {
	Topic string `arg:"" optional:"" help:"A topic; without one, the list of topics."`
}

// Run prints a topic or the list.
func (c helpCmd) Run(io *streams) error {
	topics, err := helpTopics()
	if err != nil {
		return err
	}
	if c.Topic == "" {
		fmt.Fprintln(io.out, "Topics, each shown by `promptgate help <topic>`; commands have `--help`:")
		w := newTable(io.out)
		for _, t := range topics {
			w.row("  "+t.name, t.title)
		}
		return w.flush()
	}
	for _, t := range topics {
		if t.name == c.Topic {
			_, err := fmt.Fprintln(io.out, t.text)
			return err
		}
	}
	return errUsage{fmt.Errorf("there is no topic %q; `promptgate help` lists them, `promptgate %s --help` shows a command", c.Topic, c.Topic)}
}

type topic struct{ name, title, text string }

func helpTopics() ([]topic, error) {
	files, err := manual.ReadDir("manual")
	if err != nil {
		return nil, err
	}
	var out []topic
	for _, f := range files {
		b, err := manual.ReadFile(path.Join("manual", f.Name()))
		if err != nil {
			return nil, err
		}
		name, text := strings.TrimSuffix(f.Name(), ".md"), strings.TrimSpace(string(b))
		title, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
		if name == "config" {
			text += "\n\n" + settingsTable()
		}
		out = append(out, topic{name, title, text})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// settingsTable lists every setting with the variable that sets it, made from the code.
func settingsTable() string {
	var b strings.Builder
	w := newTable(&b)
	for _, p := range configs.Paths() {
		w.row("    "+p, configs.EnvName(p))
	}
	_ = w.flush() // a strings.Builder takes everything
	return strings.TrimRight(b.String(), "\n")
}
