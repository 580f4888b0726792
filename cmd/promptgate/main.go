// Command promptgate is the gateway, the registry and their command line in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // budgets have time zones, and images without a system have none

	"github.com/alecthomas/kong"
)

// version is set by the build.
var version = "dev"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // a wrong command line or configuration
)

// errUsage marks an error as the operator's to mend before anything can start.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

// cli is the command line: every command, its flags and their help.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Start the gateway."`
	Prompt  promptCmd  `cmd:"" help:"Manage prompts: push, pull, list, diff, label, history, rollback."`
	Import  importCmd  `cmd:"" help:"Take over what a team has elsewhere: import openai."`
	Call    callCmd    `cmd:"" help:"Call a prompt by name and label."`
	Key     keyCmd     `cmd:"" help:"Manage API keys: create, list, rotate, revoke."`
	User    userCmd    `cmd:"" help:"Manage people: invite, list, set, sessions, sign-out, deactivate, activate, reset; set up the first."`
	Limit   limitCmd   `cmd:"" help:"Manage limits and budgets: set, list, show, reset, delete."`
	Access  accessCmd  `cmd:"" help:"Who may do what, and who uses it: list, grant, revoke, explain, report, review."`
	Group   groupCmd   `cmd:"" help:"Manage groups of people: list, create, delete, members, add, remove."`
	Role    roleCmd    `cmd:"" help:"Manage a project's own roles: list, set, delete."`
	Service serviceCmd `cmd:"" help:"Manage service accounts: list, create, end."`
	SSO     ssoCmd     `cmd:"" name:"sso" help:"Manage the identity providers that people sign in with: list, add, show, change, test, remove."`
	SCIM    scimCmd    `cmd:"" name:"scim" help:"Manage what directories such as Okta and Entra provision accounts with."`
	Audit   auditCmd   `cmd:"" help:"Look after the journal of changes."`
	Restore restoreCmd `cmd:"" help:"Say that a database that is older than the one served before was restored on purpose."`
	Project projectCmd `cmd:"" help:"Look after a project: sign-in, shred."`
	Seal    sealCmd    `cmd:"" help:"Look after encryption: status, rotate, reencrypt, rewrap."`
	Migrate migrateCmd `cmd:"" help:"Bring the database's schema up or down."`
	Ready   readyCmd   `cmd:"" help:"Ask a gateway whether it is ready: for health checks."`
	Help    helpCmd    `cmd:"" help:"Read the manual: promptgate help <topic>."`
	Version versionCmd `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

type versionCmd struct{}

func (versionCmd) Run(io *streams) error {
	_, err := fmt.Fprintln(io.out, "promptgate", version)
	return err
}

// streams are a command's input and outputs.
type streams struct {
	in       io.Reader
	out, err io.Writer // show stored text and never act on it
	exact    io.Writer // out for programs: every byte as it came, unless somebody looks at it
	colour   io.Writer // takes the colours of what goes to out; nil where nobody sees them
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], &streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, on *streams) int {
	io := &streams{in: on.in, out: &terminal{to: on.out}, err: &terminal{to: on.err}, exact: on.out}
	if onTerminal(on.out) {
		io.exact = io.out
		if coloured(os.Getenv) {
			io.colour = on.out
		}
	}
	var c cli
	exit := -1 // set when kong answers by itself, as for --help
	parser, err := kong.New(&c,
		kong.Name("promptgate"),
		kong.Description("The LLM gateway where a prompt is managed, versioned, permissioned, and resolved when the call is made."),
		kong.Vars{"version": "promptgate " + version},
		kong.UsageOnError(),
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(io.err, "promptgate:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		fmt.Fprintf(io.err, "promptgate: %v\nRun `promptgate --help` to see the commands.\n", err)
		return exitUsage
	}
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(io); err != nil {
		fmt.Fprintln(io.err, "promptgate:", err)
		var usage errUsage
		if errors.As(err, &usage) {
			return exitUsage
		}
		return exitFailed
	}
	return exitOK
}
