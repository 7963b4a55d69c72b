package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

const (
	cookieName  = "rccs_session"
	sessionLife = 12 * time.Hour
	// maxSessions bounds the memory that logging in can ask for; past it the
	// one that ends first goes.
	maxSessions = 1000
)

// sessions are the consoles that have logged in. They are kept in memory, as
// hashes: a restart ends them all.
type sessions struct {
	now func() time.Time

	mu   sync.Mutex
	open map[[sha256.Size]byte]session
}

// session is one that was begun with an operator's token, and ends with it.
type session struct {
	token string
	ends  time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, open: make(map[[sha256.Size]byte]session)}
}

// begin makes a cookie's value.
func (s *sessions) begin(token string) string {
	value := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var first [sha256.Size]byte
	var ends time.Time
	for id, o := range s.open {
		if now.After(o.ends) {
			delete(s.open, id)
		} else if ends.IsZero() || o.ends.Before(ends) {
			first, ends = id, o.ends
		}
	}
	if len(s.open) >= maxSessions {
		delete(s.open, first)
	}
	s.open[sha256.Sum256([]byte(value))] = session{token: token, ends: now.Add(sessionLife)}
	return value
}

// holds reports whether a request comes from a console that has logged in. The
// cookie counts only where the browser says that a page of this address asks,
// and as long as the token with which it was got is the operator's.
func (s *sessions) holds(r *http.Request, operator func(string) bool) bool {
	cookie, err := r.Cookie(cookieName)
	if err != nil || operator == nil || !fromConsole(r) {
		return false
	}
	s.mu.Lock()
	o, ok := s.open[sha256.Sum256([]byte(cookie.Value))]
	s.mu.Unlock()
	return ok && s.now().Before(o.ends) && operator(o.token)
}

// fromConsole reports whether a browser says that a page of this address asks.
func fromConsole(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return true
	}
	origin := r.Header.Get("Origin")
	return origin != "" && sameOrigin(r, origin)
}

// end reports whether there was such a session.
func (s *sessions) end(r *http.Request) bool {
	cookie, err := r.Cookie(cookieName)
	if err != nil || !fromConsole(r) {
		return false
	}
	id := sha256.Sum256([]byte(cookie.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.open[id]
	delete(s.open, id)
	return ok
}

// setCookie is the cookie of a session; an empty value takes it back.
func setCookie(r *http.Request, value string) *http.Cookie {
	c := &http.Cookie{ //nolint:gosec // without TLS, which is for this machine, a Secure cookie would not come back
		Name: cookieName, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil, MaxAge: int(sessionLife / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

type loginInput struct {
	Body struct {
		Token string `json:"token" maxLength:"4096" doc:"The operator's token, of --admin-token-file"`
	}
}

type cookieOutput struct {
	Cookie http.Cookie `header:"Set-Cookie"`
}

func (a *API) registerSessions() {
	register(a, row{
		method: http.MethodPost, path: "/v1/session", id: "login", who: anybody, tag: "Session", status: http.StatusNoContent,
		summary: "Begin a session of the console",
		description: "Sets a cookie that stands for the operator's token for 12 hours. It counts only with `Sec-Fetch-Site: same-origin`" +
			" or an `Origin` that is this address.",
		secret: true,
	}, func(_ context.Context, c *call, in *loginInput) (*cookieOutput, error) {
		if c.at != adminListener || a.opts.OperatorToken == nil || !a.opts.OperatorToken(in.Body.Token) {
			return nil, unauthorized("this is not the operator's token")
		}
		return &cookieOutput{Cookie: *setCookie(c.r, a.sessions.begin(in.Body.Token))}, nil
	})
	register(a, row{
		method: http.MethodDelete, path: "/v1/session", id: "logout", who: anybody, tag: "Session", status: http.StatusNoContent,
		summary: "End the session of the console",
	}, func(_ context.Context, c *call, _ *struct{}) (*cookieOutput, error) {
		if !a.sessions.end(c.r) {
			return nil, notFound("there is no session")
		}
		return &cookieOutput{Cookie: *setCookie(c.r, "")}, nil
	})
}
