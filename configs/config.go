// Package configs is what an operator can set: the Config, where its values come from (defaults, YAML, environment, flags: the later
// one wins), and the rules that they must keep. example.yaml beside this file shows every setting with its default.
package configs

import (
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole configuration. Durations are Go durations ("30s"), sizes are bytes. The koanf tags are the YAML names; the
// environment variable of `redis.addrs` is PROMPTGATE_REDIS_ADDRS.
type Config struct {
	Addr      string `koanf:"addr"`       // where the gateway listens; ":0" picks a free port
	OpsAddr   string `koanf:"ops_addr"`   // a listener of its own for /livez, /readyz and /metrics; "" serves them on Addr, /metrics only when that is loopback
	Profiling bool   `koanf:"profiling"`  // serve Go's profiles under /debug/pprof/ on OpsAddr
	Data      string `koanf:"data"`       // folder of the SQLite files, the master key and the spool
	Demo      bool   `koanf:"demo"`       // seed the demo project once and print a key
	LogLevel  string `koanf:"log_level"`  // debug, info, warn, error
	LogFormat string `koanf:"log_format"` // text or json
	ReadyFile string `koanf:"ready_file"` // written once the gateway listens: JSON with addr, pid and, in demo mode, key

	// AllowPlaintext names what may cross a network unencrypted: PlaintextListener, PlaintextPostgres, PlaintextRedis. Loopback needs no name.
	AllowPlaintext []string `koanf:"allow_plaintext"`

	TLS        TLS        `koanf:"tls"`
	Server     Server     `koanf:"server"`
	Database   Database   `koanf:"database"`
	Redis      Redis      `koanf:"redis"`
	Encryption Encryption `koanf:"encryption"`
	Console    Console    `koanf:"console"`
	SMTP       SMTP       `koanf:"smtp"`
	SSO        SSO        `koanf:"sso"`
	Cache      Cache      `koanf:"cache"`
	Stale      Stale      `koanf:"stale"`
	Usage      Usage      `koanf:"usage"`
	Feedback   Feedback   `koanf:"feedback"`
	Spool      Spool      `koanf:"spool"`
	Breaker    Breaker    `koanf:"breaker"`
	Limits     Limits     `koanf:"limits"`
	Webhook    Webhook    `koanf:"webhook"`
	Access     Access     `koanf:"access"`
	Providers  []Provider `koanf:"providers"`
}

// TLS is what both listeners speak, Addr and OpsAddr; no files, no TLS. The files are read again when they change.
type TLS struct {
	CertFile string `koanf:"cert_file"` // PEM: the certificate, then those between it and the authority
	KeyFile  string `koanf:"key_file"`  // PEM
}

// Server bounds what one process takes on.
type Server struct {
	MaxBodyBytes      int64         `koanf:"max_body_bytes"`      // larger requests are answered 413
	MaxInFlight       int           `koanf:"max_in_flight"`       // calls at once; more are answered 503 overloaded
	ReadHeaderTimeout time.Duration `koanf:"read_header_timeout"` // a client's time to send its headers
	ReadTimeout       time.Duration `koanf:"read_timeout"`        // … its whole request
	WriteTimeout      time.Duration `koanf:"write_timeout"`       // rolling: each write to a client must end within it
	IdleTimeout       time.Duration `koanf:"idle_timeout"`        // keep-alive connections
	PingInterval      time.Duration `koanf:"ping_interval"`       // ": ping" comments on a silent stream; 0 sends none
	DrainGrace        time.Duration `koanf:"drain_grace"`         // after SIGTERM, calls in flight may take this long
	TrustedProxies    []string      `koanf:"trusted_proxies"`     // networks of proxies in front, whose X-Forwarded-For is believed
}

// Proxies are the networks of TrustedProxies. Validate has refused what is none.
func (s Server) Proxies() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range s.TrustedProxies {
		if n, err := netip.ParsePrefix(text); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Feedback is about scores.
type Feedback struct {
	// AllowedOrigins are whose pages may send feedback by a call's token: https://app.example.com, or "*" alone for all. Empty is none.
	AllowedOrigins []string `koanf:"allowed_origins"`
}

// Database is where prompts, keys and the journal live.
type Database struct {
	URL          string `koanf:"url"` // "" is SQLite in Data; postgres://… for replicas
	MaxOpenConns int    `koanf:"max_open_conns"`
	Anchor       string `koanf:"anchor"` // REVISION:HASH, as `promptgate audit verify` prints it: a database that is older, or another one, is refused
}

// Redis is the cache that replicas share; no address, no Redis.
type Redis struct {
	Addrs        []string `koanf:"addrs"` // one: standalone (or a cluster's seed with Cluster), several: cluster, with MasterName: Sentinels
	Cluster      bool     `koanf:"cluster"`
	MasterName   string   `koanf:"master_name"`
	Username     string   `koanf:"username"`
	Password     string   `koanf:"password"`
	PasswordFile string   `koanf:"password_file"` // instead of Password; read at the start
	// What the Sentinels ask for.
	SentinelUsername     string        `koanf:"sentinel_username"`
	SentinelPassword     string        `koanf:"sentinel_password"`
	SentinelPasswordFile string        `koanf:"sentinel_password_file"`
	DB                   int           `koanf:"db"`
	TLS                  bool          `koanf:"tls"` // of the Sentinels as well
	CAFile               string        `koanf:"ca_file"`
	CertFile             string        `koanf:"cert_file"` // with KeyFile: what this client shows
	KeyFile              string        `koanf:"key_file"`
	Budget               time.Duration `koanf:"budget"` // the longest that one Redis command may take
	Prefix               string        `koanf:"prefix"` // of every key and channel
}

// Encryption says where the master key comes from: MasterKey, MasterKeyFile or KMS. On SQLite, with none, <data>/master.key is written at the
// first start in an empty folder.
type Encryption struct {
	MasterKey     string        `koanf:"master_key"` // base64 of 32 bytes
	MasterKeyFile string        `koanf:"master_key_file"`
	KMS           string        `koanf:"kms"`               // aws or vault: it wraps a master key that is made here
	KMSTimeout    time.Duration `koanf:"kms_timeout"`       // the longest that a start waits for it
	RecoveryFile  string        `koanf:"recovery_key_file"` // with KMS: base64 of 32 bytes that open the master key when KMS does not
	AWS           AWS           `koanf:"aws"`
	Vault         Vault         `koanf:"vault"`
}

// AWS is a key of AWS KMS. Credentials come from the environment, as for every AWS tool.
type AWS struct {
	KeyID    string `koanf:"key_id"`
	Region   string `koanf:"region"`
	Endpoint string `koanf:"endpoint"`
}

// Vault is a key of a transit engine.
type Vault struct {
	Addr      string `koanf:"addr"`
	Mount     string `koanf:"mount"`
	Key       string `koanf:"key"`
	Namespace string `koanf:"namespace"`
	Token     string `koanf:"token"`
	TokenFile string `koanf:"token_file"` // instead of Token; read again each time
	CAFile    string `koanf:"ca_file"`
}

// Console is where people reach the gateway with their browsers.
type Console struct {
	URL         string        `koanf:"url"`          // https://promptgate.example.com; "" is Addr on loopback, as localhost, and no sign-in beyond
	SessionIdle time.Duration `koanf:"session_idle"` // a session that is unused for so long has ended
	SessionMax  time.Duration `koanf:"session_max"`  // … that is so old, too
}

// SMTP is the server that takes e-mail: invitations and resets. No address, no e-mail: their links are shown to who makes them.
type SMTP struct {
	Addr         string `koanf:"addr"` // host:port
	From         string `koanf:"from"` // promptgate@example.com
	Username     string `koanf:"username"`
	Password     string `koanf:"password"`
	PasswordFile string `koanf:"password_file"` // instead of Password; read at the start
	CAFile       string `koanf:"ca_file"`       // who vouches for the server; "" for the system's authorities
	TLS          string `koanf:"tls"`           // SMTPStartTLS, SMTPImplicit or, on loopback, SMTPNone
}

// What SMTP.TLS can be.
const (
	SMTPStartTLS = "starttls"
	SMTPImplicit = "implicit"
	SMTPNone     = "none"
)

// SSO is what identity providers may be, whoever adds them.
type SSO struct {
	AllowPrivate bool `koanf:"allow_private"` // their addresses may be private, loopback or http
}

// Cache bounds the in-process caches, in entries.
type Cache struct {
	Prompts   int `koanf:"prompts"`
	Keys      int `koanf:"keys"`
	Decisions int `koanf:"decisions"`
}

// Stale bounds how old an answer may be while the database cannot be reached.
type Stale struct {
	After   time.Duration `koanf:"after"`   // from then on answers carry x-promptgate-stale
	Prompts time.Duration `koanf:"prompts"` // from then on prompts are refused with 503
	Keys    time.Duration `koanf:"keys"`    // … and keys
}

// Usage says how token figures are had.
type Usage struct {
	Inject bool `koanf:"inject"` // ask the provider for usage on streams whose caller did not, and withhold that chunk
}

// Breaker says when a provider whose calls fail is left alone for a while.
type Breaker struct {
	MinCalls   int           `koanf:"min_calls"`   // … half of at least so many calls in 30 s
	MinCallers int           `koanf:"min_callers"` // … of at least so many keys; 1 where one key makes all calls
	OpenFor    time.Duration `koanf:"open_for"`    // then one call at a time is let through to see
}

// Limits is about the limits and budgets that projects set.
type Limits struct {
	AssumedOutput int64 `koanf:"assumed_output"` // tokens of answer that are reserved for a call that sets no bound of its own
}

// Webhook is the address that is told of what people should look at, in all projects: budgets that are nearly used, keys and bindings that end soon, access
// reviews. Without one the journal and the log are told, and nobody else.
type Webhook struct {
	URL          string `koanf:"url"`
	Secret       string `koanf:"secret"` // whsec_ and base64, as Standard Webhooks has it
	SecretFile   string `koanf:"secret_file"`
	AllowPrivate bool   `koanf:"allow_private"` // its address may be private or loopback
}

// Access is about who holds what.
type Access struct {
	ExpiryDays []int `koanf:"expiry_days"` // so many days before its end a key or binding is told of
}

// Spool bounds the local record of finished calls.
type Spool struct {
	MaxBytes        int64 `koanf:"max_bytes"`
	ServeUnrecorded bool  `koanf:"serve_unrecorded"` // go on serving when calls cannot be recorded: the disk is full, or too much waits for the database
}

// Provider is an upstream that every project may use. Providers of one project are stored, sealed, through the management API.
type Provider struct {
	Name         string        `koanf:"name"`
	Kind         string        `koanf:"kind"` // openai or anthropic (any compatible one), or echo
	BaseURL      string        `koanf:"base_url"`
	APIKey       string        `koanf:"api_key"`
	Models       []string      `koanf:"models"`        // names or patterns with *; none means every model
	APIs         []string      `koanf:"apis"`          // openai only: what it speaks, such as chat, responses, embeddings; none means all of OpenAI's
	AllowPrivate bool          `koanf:"allow_private"` // its address may be private or loopback
	Timeout      time.Duration `koanf:"timeout"`       // to the first byte of an answer; 0 means 2 minutes
	Latency      time.Duration `koanf:"latency"`       // echo only: waits before it answers
	ChunkDelay   time.Duration `koanf:"chunk_delay"`   // echo only: waits between the chunks of a stream
	PriceList    PriceList     `koanf:"price_list"`
}

// Moment is a day, 2026-01-31, which begins at midnight UTC, or RFC 3339's 2026-01-31T08:00:00Z. "" is none.
type Moment string

// Time reads a Moment; none is the zero time.
func (m Moment) Time() (time.Time, error) {
	if m == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, string(m)); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, string(m))
}

// PriceList says what a provider's tokens cost.
type PriceList struct {
	Catalogue string  `koanf:"catalogue"` // built-in public prices, by vendor; "" the vendor's of base_url, else OpenAI's; none: only those below
	Prices    []Price `koanf:"prices"`    // before the catalogue's
}

// Price is what a model's tokens cost, in US dollars per million.
type Price struct {
	Model       string   `koanf:"model"` // as the provider knows it; a trailing * matches any ending
	From        Moment   `koanf:"from"`  // first at which it holds; "" ever since
	Until       Moment   `koanf:"until"` // first at which it holds no longer; "" for ever
	Input       *float64 `koanf:"input"`
	CachedInput *float64 `koanf:"cached_input"` // as input, where it has no price of its own; so do the other parts
	CacheWrite  *float64 `koanf:"cache_write"`
	AudioInput  *float64 `koanf:"audio_input"`
	Output      *float64 `koanf:"output"`
	Reasoning   *float64 `koanf:"reasoning"`
	AudioOutput *float64 `koanf:"audio_output"`
}

// Default is what holds when nothing is set; example.yaml says the same.
func Default() Config {
	return Config{
		Addr: "127.0.0.1:8080", Data: "./data", LogLevel: "info", LogFormat: "text", AllowPlaintext: []string{},
		Server: Server{
			MaxBodyBytes: 32 << 20, MaxInFlight: 10_000,
			ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second,
			WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, DrainGrace: 30 * time.Second, TrustedProxies: []string{},
		},
		Database:   Database{MaxOpenConns: 20},
		Redis:      Redis{Addrs: []string{}, Budget: 50 * time.Millisecond, Prefix: "promptgate"},
		Encryption: Encryption{KMSTimeout: 15 * time.Second, Vault: Vault{Mount: "transit"}},

		Cache:    Cache{Prompts: 200_000, Keys: 200_000, Decisions: 1_000_000},
		Console:  Console{SessionIdle: 12 * time.Hour, SessionMax: 7 * 24 * time.Hour},
		SMTP:     SMTP{TLS: SMTPStartTLS},
		Stale:    Stale{After: 2 * time.Second, Prompts: 24 * time.Hour, Keys: time.Hour},
		Usage:    Usage{Inject: true},
		Feedback: Feedback{AllowedOrigins: []string{}},
		Spool:    Spool{MaxBytes: 1 << 30},
		Limits:   Limits{AssumedOutput: 4096},
		Access:   Access{ExpiryDays: []int{14, 7, 1}},
		Breaker:  Breaker{MinCalls: 20, MinCallers: 2, OpenFor: 10 * time.Second},

		Providers: []Provider{},
	}
}

// DatabaseURL is Database.URL, or the SQLite file in Data.
func (c Config) DatabaseURL() string {
	if c.Database.URL != "" {
		return c.Database.URL
	}
	return "sqlite:" + filepath.Join(c.Data, "promptgate.db")
}

// LedgerURL is where the call ledger lives: a second file on SQLite, so that its batches never hold up a label move; the same
// database on PostgreSQL.
func (c Config) LedgerURL() string {
	if c.Postgres() {
		return c.Database.URL
	}
	return "sqlite:" + filepath.Join(c.Data, "ledger.db")
}

// Postgres says whether the database is PostgreSQL.
func (c Config) Postgres() bool {
	return strings.HasPrefix(c.Database.URL, "postgres://") || strings.HasPrefix(c.Database.URL, "postgresql://")
}
