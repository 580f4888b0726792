package configs_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
)

// What crosses a network is encrypted, or allowed by name; the refusal says both ways out.
func TestPlaintextBeyondLoopbackIsRefused(t *testing.T) {
	const key = "encryption: {master_key_file: /k}\n"
	for text, want := range map[string]string{
		"addr: 0.0.0.0:8080":   "addr: 0.0.0.0:8080 can be reached",
		"addr: ':8080'":        "addr: :8080 can be reached",
		"addr: '[::]:8080'":    "addr: [::]:8080 can be reached",
		"addr: 10.1.2.3:1":     "addr: 10.1.2.3:1 can be reached",
		"addr: example.com:80": "addr: example.com:80 can be reached",
		"addr: 127.9.0.1:0":    "",
		"addr: '[::1]:0'":      "",
		"addr: localhost:8080": "",
		"ops_addr: ':9090'":    "ops_addr: :9090 can be reached",
		"addr: ':1'\nallow_plaintext: [postgres, redis]":                 "addr: :1 can be reached",
		"addr: ':1'\nops_addr: ':2'\nallow_plaintext: [listener]":        "",
		"addr: ':1'\nops_addr: ':2'\ntls: {cert_file: /c, key_file: /k}": "",
		"tls: {cert_file: /c}":                                                           "tls: sets one of cert_file and key_file",
		"allow_plaintext: [mysql]":                                                       `allow_plaintext[0]: is "mysql"; use one of listener, postgres, redis`,
		"redis: {addrs: ['r:6379']}":                                                     "redis.addrs[0]: r:6379 would be talked to in plaintext",
		"redis: {addrs: ['127.0.0.1:1', 'r:2']}":                                         "redis.addrs[1]: r:2",
		"redis: {addrs: ['127.0.0.1:1', '[::1]:2']}":                                     "",
		"redis: {addrs: ['r:6379'], tls: true}":                                          "",
		"redis: {addrs: ['r:6379']}\nallow_plaintext: [listener, postgres]":              "redis.addrs[0]",
		"redis: {addrs: ['r:6379']}\nallow_plaintext: [redis]":                           "",
		key + "database: {url: 'postgres://u:secret@db/x'}":                              "database.url: would talk to db in plaintext",
		key + "database: {url: 'postgres://u:secret@db/x?sslmode=disable'}":              "database.url: would talk to db",
		key + "database: {url: 'postgres://u:secret@db/x?sslmode=prefer'}":               "database.url: would talk to db",
		key + "database: {url: 'postgres://u:secret@db/x?sslmode=allow'}":                "database.url: would talk to db",
		key + "database: {url: 'postgres://u:secret@db/x?sslmode=require'}":              "",
		key + "database: {url: 'postgres://u:secret@db/x?sslmode=verify-full'}":          "",
		key + "database: {url: 'postgres://u:secret@127.0.0.1/x'}":                       "",
		key + "database: {url: 'postgres://u:secret@/x?host=/run/postgresql'}":           "",
		key + "database: {url: 'postgres://u:secret@/x?host=127.0.0.1,db'}":              "database.url: would talk to db",
		key + "allow_plaintext: [postgres]\ndatabase: {url: 'postgres://u:secret@db/x'}": "",
	} {
		_, err := configs.Load(configs.Sources{File: write(t, text)})
		requireFault(t, want, err, text)
		if err == nil {
			continue
		}
		require.NotContains(t, err.Error(), "secret")
		if strings.Contains(want, "can be reached") || strings.Contains(want, "talk") {
			require.ErrorContains(t, err, "allow_plaintext: [", "one way out")
			require.Regexp(t, `tls\.cert_file|sslmode=verify-full|redis\.tls`, err.Error(), "the other way out")
		}
	}
}

func TestChartTLS(t *testing.T) {
	all := mustRender(t, full)
	require.False(t, find(t, all, "StatefulSet").has("spec.template.spec.containers.0.livenessProbe.httpGet.scheme"))
	require.Empty(t, chartConfig(t, all).TLS.CertFile)
	_, _, err := render(t, full+"\ntls: {existingSecret: ''}\nallowPlaintext: [everything]")
	require.ErrorContains(t, err, "allowPlaintext")
	all = mustRender(t, full+"tls: {existingSecret: cert, certKey: full.pem}\n")
	cfg, s := chartConfig(t, all), find(t, all, "StatefulSet")
	require.Equal(t, configs.TLS{CertFile: "/etc/promptgate-tls/tls.crt", KeyFile: "/etc/promptgate-tls/tls.key"}, cfg.TLS)
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		require.Equal(t, "HTTPS", s.at(t, "spec.template.spec.containers.0."+probe+".httpGet.scheme"))
	}
	require.Equal(t, "https", s.at(t, "spec.template.metadata.annotations").(map[string]any)["prometheus.io/scheme"])
	require.Equal(t, "https", find(t, all, "PodMonitor").at(t, "spec.podMetricsEndpoints.0.scheme"))
	require.Equal(t, "cert", s.at(t, "spec.template.spec.volumes.2.secret.secretName"))
	require.Equal(t, "full.pem", s.at(t, "spec.template.spec.volumes.2.secret.items.0.key"))
}
