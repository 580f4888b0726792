package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider/egress"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
)

const (
	webhookTime  = 10 * time.Second
	leastSecret  = 24 // bytes
	webhookEvent = "limit.warning"
)

// webhook sends signed messages to the operator's address.
type webhook struct {
	url    string
	signer *standardwebhooks.Webhook
	client *http.Client
	clock  func() time.Time
}

// newWebhook is nil where none is configured.
func newWebhook(c configs.Webhook) (*webhook, error) {
	if c.URL == "" {
		return nil, nil
	}
	u, err := egress.ParseURL(c.URL, c.AllowPrivate)
	if err != nil {
		return nil, fmt.Errorf("webhook.url: %w", err)
	}
	secret := c.Secret
	if c.SecretFile != "" {
		text, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("webhook.secret_file: %w", err)
		}
		secret = strings.TrimSpace(string(text))
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")); err != nil || len(key) < leastSecret {
		return nil, fmt.Errorf("webhook: the secret is not whsec_ and the base64 of at least %d bytes", leastSecret)
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	return &webhook{url: u.String(), signer: signer, clock: time.Now, client: &http.Client{
		Timeout: webhookTime,
		Transport: &http.Transport{
			DialContext: egress.Dialer(webhookTime, c.AllowPrivate).DialContext, TLSHandshakeTimeout: webhookTime, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // what is signed goes nowhere else
	}}, nil
}

// warn delivers a warning. Its id is the same at each try, so that a receiver knows it again.
func (w *webhook) warn(ctx context.Context, one limits.Warning) error {
	money := one.Limit.Measure == limits.USD
	amount := func(n int64) json.Number {
		if money {
			return json.Number(strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64))
		}
		return json.Number(strconv.FormatInt(n, 10))
	}
	return w.send(ctx, one.ID, map[string]any{
		"type": webhookEvent, "timestamp": one.At,
		"data": map[string]any{
			"project": one.Limit.Project, "limit": one.Limit.ID, "name": one.Limit.Name, "measure": one.Limit.Measure, "scope": one.Limit.Scope, "soft": one.Limit.Soft,
			"subject": cmp.Or(one.Subject, one.Limit.Subject), "percent": one.Threshold, "used": amount(one.Used), "amount": amount(one.Amount), "period": one.Limit.Period,
			"starts_at": one.Start.UTC(), "ends_at": one.End.UTC(),
		},
	})
}

// tell delivers a notice, under its id at each try.
func (w *webhook) tell(ctx context.Context, n policy.Notice) error {
	return w.send(ctx, n.ID, map[string]any{"type": n.Type, "timestamp": n.At, "data": n.Data})
}

func (w *webhook) send(ctx context.Context, id string, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	now := w.clock()
	signature, err := w.signer.Sign(id, now, body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "promptgate/"+version)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("webhook: answered %d", res.StatusCode)
	}
	return nil
}
