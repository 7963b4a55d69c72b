package backbone

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// Options configure a [Server].
type Options struct {
	// Config is the text of a nats.conf. Empty means the defaults of NATS.
	Config []byte
	// ConfigPath names the file to read instead of Config; its include lines
	// are relative to it. At most one of the two may be given.
	ConfigPath string
	// Dir is the data directory, made with mode 0700 if there is none. Required.
	Dir string
	// Listen is the HOST:PORT for ordinary NATS clients; port 0 picks a free
	// one, see [Server.ClientURL]. Empty means no listener: then only
	// [Server.InProcess] reaches the server.
	Listen string
	// Operator is trusted to sign accounts. Required.
	Operator *jwt.OperatorClaims
	// SystemAccount is the public key of the system account. Required.
	SystemAccount string
	// Accounts are the JWTs of all accounts, the system account among them,
	// signed by the operator. One that [Server.UpdateAccount] stored earlier
	// is kept instead, unless the given one was issued later.
	Accounts []string
	// Derived are JWTs of accounts that were made from others just now, and may
	// know less than what is stored: they count where nothing is. UpdateAccount
	// replaces them.
	Derived []string
	// StoreKey encrypts what JetStream stores, instead of a key in the
	// nats.conf; at least [MinStoreKey] bytes. Empty, and none there: what is
	// stored is not encrypted. What was stored before without a key is
	// encrypted at the start.
	StoreKey string
	// OldStoreKey is the key before StoreKey, for the start at which it changes.
	OldStoreKey string
	// RouteSecret is the password between servers of a cluster, and between clusters
	// that gateways connect, unless nats.conf protects these itself. All servers need
	// the same one. Empty: none.
	RouteSecret string
	// MaxPayload has the server take messages of so many bytes at least, whatever the
	// configuration says.
	MaxPayload int
	// Logger receives what nats-server logs. Nil discards it.
	Logger *slog.Logger
}

// validate checks what can be checked without touching the disk, and names the
// field that is wrong.
func (o Options) validate() error {
	switch {
	case o.Dir == "":
		return errors.New("backbone: Options.Dir is empty: name a data directory")
	case len(o.Config) > 0 && o.ConfigPath != "":
		return errors.New("backbone: Options.Config and Options.ConfigPath are both given: leave one out")
	case o.Operator == nil:
		return errors.New("backbone: Options.Operator is missing: decode it from the operator's JWT")
	case o.SystemAccount == "":
		return errors.New("backbone: Options.SystemAccount is empty: give its public key")
	case o.StoreKey != "" && len(o.StoreKey) < MinStoreKey:
		return fmt.Errorf("backbone: the key of the store has %d bytes, and needs %d at least: make one with openssl rand -base64 32",
			len(o.StoreKey), MinStoreKey)
	case o.OldStoreKey != "" && o.StoreKey == "":
		return errors.New("backbone: Options.OldStoreKey is given without Options.StoreKey, the key that comes after it")
	}
	if o.Listen != "" {
		if _, _, err := splitListen(o.Listen); err != nil {
			return err
		}
	}
	return o.validateAccounts()
}

func (o Options) validateAccounts() error {
	var names []string
	for i, token := range slices.Concat(o.Accounts, o.Derived) {
		claims, err := checkAccount(o.Operator, token)
		if err != nil {
			return fmt.Errorf("backbone: account %d of Options.Accounts and Derived: %w", i, err)
		}
		if slices.Contains(names, claims.Subject) {
			return fmt.Errorf("backbone: account %d of Options.Accounts and Derived: account %s is given twice", i, claims.Subject)
		}
		names = append(names, claims.Subject)
	}
	if !slices.Contains(names, o.SystemAccount) {
		return fmt.Errorf("backbone: Options.Accounts lacks the system account %s", o.SystemAccount)
	}
	return nil
}

// checkAccount decodes an account JWT, which checks its signature, and says
// whether this server would trust it.
func checkAccount(operator *jwt.OperatorClaims, token string) (*jwt.AccountClaims, error) {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return nil, fmt.Errorf("not an account JWT: %w", err)
	}
	trusted := slices.Contains(operator.SigningKeys, claims.Issuer) ||
		claims.Issuer == operator.Subject && !operator.StrictSigningKeyUsage
	if !trusted {
		return nil, fmt.Errorf("account %s is signed by %s, which is no key of operator %s",
			claims.Subject, claims.Issuer, operator.Subject)
	}
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	if results.IsBlocking(true) {
		return nil, fmt.Errorf("account %s: %w", claims.Subject, errors.Join(results.Errors()...))
	}
	return claims, nil
}

// splitListen reads HOST:PORT, with a numeric port.
func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("backbone: listen address %q is not HOST:PORT: %w", listen, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("backbone: listen address %q: port %q is not a number from 0 to 65535", listen, text)
	}
	return host, int(n), nil
}

// parse reads the nats.conf and lays over it what RCCS owns. The second result
// names the settings of the file that were overridden.
func (o Options) parse() (*server.Options, []string, error) {
	opts := &server.Options{}
	var err error
	name := "nats.conf"
	switch {
	case o.ConfigPath != "":
		name = o.ConfigPath
		err = opts.ProcessConfigFile(o.ConfigPath)
	case len(o.Config) > 0:
		err = opts.ProcessConfigString(string(o.Config))
	}
	if err = withoutWarnings(err); err != nil {
		return nil, nil, fmt.Errorf("backbone: configuration %s: %w", name, err)
	}
	if err := o.checkKeyFiles(); err != nil {
		return nil, nil, err
	}
	if opts.Cluster.Port != 0 && o.Listen == "" {
		// nats-server starts its routes when the clients' listener is there,
		// and without one would wait for ever, even to shut down.
		return nil, nil, fmt.Errorf("backbone: configuration %s has a cluster block: Options.Listen is needed with it", name)
	}
	if len(opts.Accounts)+len(opts.Users)+len(opts.Nkeys) > 0 {
		return nil, nil, fmt.Errorf("backbone: configuration %s names accounts or users: take them out."+
			" Both come from signed JWTs, which 'rccs tenants' and 'rccs creds' make", name)
	}
	o.protectServers(opts)
	ignored := overridden(opts)
	o.own(opts)
	return opts, ignored, nil
}

// withoutWarnings keeps the errors about a file, each of which names its line.
// With warnings alone a stock nats-server starts, and so does this one.
func withoutWarnings(err error) error {
	var list interface{ Errors() []error }
	if errors.As(err, &list) {
		return errors.Join(list.Errors()...)
	}
	return err
}

// overridden lists the settings that stand in the file and have no effect.
func overridden(opts *server.Options) []string {
	var names []string
	add := func(set bool, name string) {
		if set {
			names = append(names, name)
		}
	}
	add(opts.Host != "" || opts.Port != 0, "listen")
	add(opts.StoreDir != "", "store_dir")
	add(len(opts.TrustedOperators) > 0 || len(opts.TrustedKeys) > 0, "operator")
	add(opts.AccountResolver != nil, "resolver")
	add(opts.SystemAccount != "", "system_account")
	add(opts.LogFile != "" || opts.Syslog, "log_file")
	add(opts.Trace, "trace")
	add(opts.Username != "" || opts.Password != "" || opts.Authorization != "" || opts.AuthCallout != nil, "authorization")
	add(opts.ProfPort != 0, "prof_port")
	return names
}

// maxPayload is the largest that a server of NATS can be set to.
const maxPayload = 64 << 20

// own sets what is RCCS's to decide, whatever the file says.
func (o Options) own(opts *server.Options) {
	opts.NoSigs = true // nats-server would end the process on SIGINT
	opts.JetStream = true
	opts.StoreDir = o.Dir // nats-server adds "jetstream"
	if o.StoreKey != "" {
		opts.JetStreamKey, opts.JetStreamOldKey = o.StoreKey, o.OldStoreKey
	}
	opts.TrustedOperators = []*jwt.OperatorClaims{o.Operator}
	opts.TrustedKeys = nil
	opts.SystemAccount = o.SystemAccount
	opts.Username, opts.Password, opts.Authorization, opts.AuthCallout = "", "", "", nil // credentials are JWTs
	opts.AccountResolver = nil                                                           // set in Start, which may write to the disk
	opts.LogFile, opts.Syslog = "", false
	opts.Trace = false // it would log payloads and credentials
	opts.ProfPort = 0  // it asks nobody who he is; the admin address has profiles
	if opts.HTTPHost == "" {
		opts.HTTPHost = "127.0.0.1" // the monitoring asks nobody either: other machines reach it where nats.conf says so
	}
	if opts.ServerName == "" && opts.Cluster.Port == 0 {
		opts.ServerName = "rccs" // in a cluster NATS asks for a name, which must be unique
	}
	if most := int32(min(o.MaxPayload, maxPayload)); most > max(opts.MaxPayload, server.MAX_PAYLOAD_SIZE) { //nolint:gosec // at most maxPayload
		opts.MaxPayload, opts.MaxPending = most, max(opts.MaxPending, 4*maxPayload)
	}
	opts.DontListen = o.Listen == ""
	opts.Host, opts.Port = "", 0
	if o.Listen != "" {
		opts.Host, opts.Port, _ = splitListen(o.Listen) // validate has checked it
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
}
