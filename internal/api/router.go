package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// router finds the handler of a path, segment by segment, so that a name in a
// path may hold any character, percent-encoded once. net/http's own cleans
// paths and answers 404 and 405 in its own form.
type router struct {
	routes []*route
}

// route is one pattern with its methods.
type route struct {
	segments []string // "{name}" is any one segment
	handlers map[string]http.HandlerFunc
}

// HandleFunc adds a pattern such as "GET /v1/users/{user}". What is for GET
// answers HEAD too.
func (rt *router) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	method, path, _ := strings.Cut(pattern, " ")
	segments := strings.Split(path, "/")[1:]
	at := slices.IndexFunc(rt.routes, func(r *route) bool { return slices.Equal(r.segments, segments) })
	if at < 0 {
		at = len(rt.routes)
		rt.routes = append(rt.routes, &route{segments: segments, handlers: make(map[string]http.HandlerFunc)})
	}
	rt.routes[at].handlers[method] = h
	if method == http.MethodGet {
		rt.routes[at].handlers[http.MethodHead] = h
	}
}

// ServeHTTP implements [http.Handler].
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, names := rt.find(r.URL)
	if found == nil {
		notFound("there is nothing at this path: /v1/openapi.json lists what there is").write(w)
		return
	}
	h := found.handlers[r.Method]
	if h == nil {
		methods := slices.Sorted(maps.Keys(found.handlers))
		w.Header().Set("Allow", strings.Join(methods, ", "))
		problem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "want "+strings.Join(methods, " or ")).write(w)
		return
	}
	for name, value := range names {
		r.SetPathValue(name, value)
	}
	h(w, r)
}

// find is the route of a path, one that names more of it first.
func (rt *router) find(u *url.URL) (*route, map[string]string) {
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return nil, nil
	}
	segments := strings.Split(path, "/")
	var best *route
	for _, r := range rt.routes {
		if r.matches(segments) && (best == nil || r.literals() > best.literals()) {
			best = r
		}
	}
	if best == nil {
		return nil, nil
	}
	names := make(map[string]string)
	for i, s := range best.segments {
		if name, is := parameter(s); is {
			value, err := url.PathUnescape(segments[i])
			if err != nil || value == "" {
				return nil, nil
			}
			names[name] = value
		}
	}
	return best, names
}

func (r *route) matches(segments []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, s := range r.segments {
		if _, is := parameter(s); !is && s != segments[i] {
			return false
		}
	}
	return true
}

func (r *route) literals() (n int) {
	for _, s := range r.segments {
		if _, is := parameter(s); !is {
			n++
		}
	}
	return n
}

// parameter is the name of a segment that may be anything.
func parameter(segment string) (name string, is bool) {
	rest, ok := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(rest, "}")
	return name, ok && closed
}
