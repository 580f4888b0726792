package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/registry/interchange"
)

type importCmd struct {
	OpenAI importOpenAICmd `cmd:"" name:"openai" help:"Take over OpenAI's prompt objects, with their pmpt_ ids and version numbers."`
}

type importOpenAICmd struct {
	remote
	File   string `arg:"" optional:"" default:"-" help:"JSON: prompt objects, a list of them, or answers of the Responses API to calls of prompts; - reads standard input."`
	Folder string `default:"openai" help:"Folder for the prompts' names here; their callers go on with the ids."`
	Label  string `default:"production" help:"Point this label at the version that calls without a version got; none leaves the labels alone."`
	Model  string `help:"Model for versions that name none."`
	DryRun bool   `help:"Say what would be made; change nothing."`
}

// Run reads everything before it makes anything: what cannot be read makes nothing. Importing again makes what is not there yet.
func (c importOpenAICmd) Run(ctx context.Context, s *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	from := s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	found, err := interchange.OpenAI(from)
	if err != nil {
		return fmt.Errorf("%s cannot be imported: %w", c.File, err)
	}
	for i := range found {
		if err := c.one(ctx, cl, s.out, &found[i]); err != nil {
			return fmt.Errorf("%s: %w", found[i].ID, err)
		}
	}
	return nil
}

// one makes a prompt with its versions, and what is not there yet of one that was imported before.
func (c importOpenAICmd) one(ctx context.Context, cl *client, out io.Writer, f *interchange.Foreign) error {
	var p admin.Prompt
	err := cl.call(ctx, http.MethodGet, promptPath(f.ID), nil, &p)
	missing := isStatus(err, http.StatusNotFound)
	switch {
	case err != nil && !missing:
		return err
	case missing:
		p.Name = c.Folder + "/" + nameOf(f)
		if c.DryRun {
			fmt.Fprintf(out, "%s: would be created, answers to %s\n", p.Name, f.ID)
			break
		}
		create := admin.PromptCreate{Name: p.Name, Description: strings.TrimSpace(f.Name), Aliases: []string{f.ID}}
		if err := cl.call(ctx, http.MethodPost, "/api/v1/prompts", create, &p); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: created, answers to %s\n", p.Name, f.ID)
	}
	for i := range f.Versions {
		if err := c.version(ctx, cl, out, &p, &f.Versions[i], missing); err != nil {
			return err
		}
	}
	return c.label(ctx, cl, out, &p, f)
}

// version saves a version under its number. One that is there stays: versions never change.
func (c importOpenAICmd) version(ctx context.Context, cl *client, out io.Writer, p *admin.Prompt, v *interchange.ForeignVersion, fresh bool) error {
	if v.Content.Model == "" {
		v.Content.Model = c.Model
	}
	if v.Number > 0 && !fresh {
		err := cl.call(ctx, http.MethodGet, promptPath(p.Name, "versions", strconv.Itoa(v.Number)), nil, nil)
		if err == nil {
			fmt.Fprintf(out, "%s: version %d is there already\n", p.Name, v.Number)
			return nil
		}
		if !isStatus(err, http.StatusNotFound) {
			return err
		}
	}
	if c.DryRun {
		fmt.Fprintf(out, "%s: version %s would be saved\n", p.Name, shownNumber(v.Number))
		return nil
	}
	var saved admin.VersionSaved
	create := admin.VersionCreate{Content: admin.ContentOf(v.Content), Number: v.Number, Note: "Imported from OpenAI", Insist: true}
	if err := cl.call(ctx, http.MethodPost, promptPath(p.Name, "versions"), create, &saved); err != nil {
		return fmt.Errorf("version %s: %w", shownNumber(v.Number), err)
	}
	v.Number = saved.Number
	fmt.Fprintf(out, "%s: version %d saved\n", p.Name, saved.Number)
	return nil
}

// label points the label at the version that calls without one got, as far as that is known: else at the newest.
func (c importOpenAICmd) label(ctx context.Context, cl *client, out io.Writer, p *admin.Prompt, f *interchange.Foreign) error {
	if c.Label == "none" || c.Label == "" {
		return nil
	}
	at := f.Default
	if !slices.ContainsFunc(f.Versions, func(v interchange.ForeignVersion) bool { return v.Number == at }) {
		at = f.Versions[len(f.Versions)-1].Number
	}
	if c.DryRun {
		fmt.Fprintf(out, "%s: %s would be version %s\n", p.Name, c.Label, shownNumber(at))
		return nil
	}
	labels, err := cl.labels(ctx, p.Name)
	if err != nil {
		return err
	}
	for _, l := range labels {
		if l.Name == c.Label { // people may have moved it on since
			fmt.Fprintf(out, "%s: %s stays version %d\n", p.Name, c.Label, l.Version)
			return nil
		}
	}
	move := admin.LabelMove{Version: at, From: new(int)}
	if err := cl.call(ctx, http.MethodPut, promptPath(p.Name, "labels", c.Label), move, nil, "X-Promptgate-Why", "Imported from OpenAI"); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s is version %d\n", p.Name, c.Label, at)
	return nil
}

func shownNumber(n int) string {
	if n == 0 {
		return "(the next)"
	}
	return strconv.Itoa(n)
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf is a name for people, made of the foreign one, or of the id.
func nameOf(f *interchange.Foreign) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(f.Name), "-"), "-")
	if name == "" {
		name = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(f.ID, "pmpt_")), "-"), "-")
	}
	return name[:min(len(name), 80)]
}

func isStatus(err error, status int) bool {
	var e *statusError
	return errors.As(err, &e) && e.Status == status
}
