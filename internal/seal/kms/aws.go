package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// AWSOptions say which key of AWS KMS it is. Credentials come as for every AWS tool: environment, shared files, web identity, the machine's role.
type AWSOptions struct {
	KeyID    string // id, ARN or alias of a symmetric key
	Region   string // "" takes the environment's
	Endpoint string // "" is AWS' own of the region
	Timeout  time.Duration
	Clock    func() time.Time // nil means time.Now
}

// AWS seals by AWS KMS.
type AWS struct {
	o        AWSOptions
	endpoint *url.URL
	config   aws.Config
	client   *http.Client
	signer   *v4.Signer
}

// NewAWS reads the environment and sends nothing.
func NewAWS(ctx context.Context, o AWSOptions) (*AWS, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	var with []func(*config.LoadOptions) error
	if o.Region != "" {
		with = append(with, config.WithRegion(o.Region))
	}
	c, err := config.LoadDefaultConfig(ctx, with...)
	if err != nil {
		return nil, fmt.Errorf("encryption.aws: %w", err)
	}
	if c.Region == "" {
		return nil, errors.New("encryption.aws.region: is empty, and so is AWS_REGION; name the region of the key, such as eu-central-1")
	}
	a := &AWS{o: o, config: c, signer: v4.NewSigner()}
	if o.Endpoint == "" {
		o.Endpoint = "https://kms." + c.Region + ".amazonaws.com"
	}
	if a.endpoint, err = safeURL("encryption.aws.endpoint", o.Endpoint); err != nil {
		return nil, err
	}
	a.client, err = newClient("")
	return a, err
}

// ID implements seal.Wrapper.
func (a *AWS) ID() string { return "aws-kms:" + a.config.Region + "/" + a.o.KeyID }

// The context that a ciphertext is bound to; the key's policy can ask for it, and CloudTrail shows it.
func encryptionContext() map[string]string {
	return map[string]string{"app": "promptgate", "purpose": "master-key"}
}

type awsRequest struct {
	KeyID             string            `json:"KeyId"`
	Plaintext         []byte            `json:",omitempty"`
	CiphertextBlob    []byte            `json:",omitempty"`
	EncryptionContext map[string]string `json:"EncryptionContext"`
}

type awsAnswer struct {
	Plaintext      []byte
	CiphertextBlob []byte

	Type    string `json:"__type"`
	Message string `json:"message"` // or Message: names match in any case
}

// Wrap implements seal.Wrapper.
func (a *AWS) Wrap(ctx context.Context, secret []byte) ([]byte, error) {
	out, err := a.call(ctx, "Encrypt", awsRequest{KeyID: a.o.KeyID, Plaintext: secret, EncryptionContext: encryptionContext()})
	if err == nil && len(out.CiphertextBlob) == 0 {
		err = a.explain("Encrypt", errors.New("the answer holds no ciphertext"))
	}
	return out.CiphertextBlob, err
}

// Unwrap implements seal.Wrapper.
func (a *AWS) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := a.call(ctx, "Decrypt", awsRequest{KeyID: a.o.KeyID, CiphertextBlob: wrapped, EncryptionContext: encryptionContext()})
	return out.Plaintext, err
}

func (a *AWS) call(ctx context.Context, operation string, in awsRequest) (out awsAnswer, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	err = persist(ctx, a.o.Timeout, func(ctx context.Context) error {
		out = awsAnswer{}
		return a.once(ctx, operation, body, &out)
	})
	if err != nil {
		return out, a.explain(operation, err)
	}
	return out, nil
}

func (a *AWS) explain(operation string, err error) error {
	return fmt.Errorf("AWS KMS (%s, key %s, %s): %w", a.endpoint.Host, a.o.KeyID, operation, err)
}

func (a *AWS) once(ctx context.Context, operation string, body []byte, out *awsAnswer) error {
	if a.config.Credentials == nil {
		return errors.New("there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role")
	}
	who, err := a.config.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.endpoint.String()+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+operation)
	req.ContentLength = int64(len(body))
	sum := sha256.Sum256(body)
	if err := a.signer.SignHTTP(ctx, who, req, hex.EncodeToString(sum[:]), "kms", a.config.Region, a.o.Clock()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	status, answer, err := send(a.client, req, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil && status == http.StatusOK {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	if status == http.StatusOK {
		return nil
	}
	return awsRefusal(status, out)
}

// awsRefusal says what to do about an error that AWS names.
func awsRefusal(status int, out *awsAnswer) error {
	name := shortType(out.Type)
	err := fmt.Errorf("%d %s: %.300s", status, name, out.Message)
	switch name {
	case "AccessDeniedException":
		return fmt.Errorf("%w (allow kms:Encrypt and kms:Decrypt on the key to this identity, with the encryption context app=promptgate, purpose=master-key)", err)
	case "IncorrectKeyException":
		return fmt.Errorf("%w (the master key was wrapped by another key: configure that one, or `promptgate seal rewrap` from it)", err)
	case "InvalidCiphertextException":
		return fmt.Errorf("%w (journal_keyset was altered, or the key is another one: restore it from a backup)", err)
	case "NotFoundException":
		return fmt.Errorf("%w (is encryption.aws.key_id right, and the region?)", err)
	case "DisabledException", "KMSInvalidStateException":
		return fmt.Errorf("%w (enable the key, or cancel its deletion, in AWS KMS)", err)
	case "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException", "IncompleteSignature", "InvalidClientTokenId":
		return fmt.Errorf("%w (the AWS credentials are wrong or expired, or this machine's clock is)", err)
	case "ThrottlingException", "LimitExceededException", "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException":
		return errAgain{err}
	}
	if status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
		return errAgain{err}
	}
	return err
}

// shortType is what follows a namespace: com.amazonaws.kms#NotFoundException.
func shortType(t string) string {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i] == '#' {
			return t[i+1:]
		}
	}
	return t
}
