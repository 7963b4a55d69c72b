// Package web serves the console, a web application that is built from the
// sources beside this file into dist and is part of the program. Where it was
// not built, a page says how to have it.
//
// It has no state. All it serves is public: what the console shows comes from
// the HTTP API, which asks who wants to know.
package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// Policy is the Content-Security-Policy of the console: it loads what lies here
// and talks to where it lies, and no page may frame it.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

// Prefix is where the console lies on its server. A proxy may serve it below
// another one.
const Prefix = "/console/"

const index = "index.html"

// file is one that is served.
type file struct {
	kind  string
	plain []byte
	small []byte // gzip; nil where that is no smaller
}

// console is the handler.
type console struct{ files map[string]file }

// Handler serves the console below [Prefix], and sends "/" there.
func Handler() (http.Handler, error) {
	c := &console{files: make(map[string]file)}
	err := fs.WalkDir(dist, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		text, err := dist.ReadFile(name)
		if err == nil {
			c.files[strings.TrimPrefix(name, "dist/")] = newFile(name, text)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return c, nil
}

func newFile(name string, text []byte) file {
	f := file{kind: mime.TypeByExtension(path.Ext(name)), plain: text}
	if f.kind == "" {
		f.kind = http.DetectContentType(text)
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one
	_, _ = z.Write(text)                                  // a buffer takes all
	if _ = z.Close(); b.Len() < len(text) {
		f.small = b.Bytes()
	}
	return f
}

// ServeHTTP implements [http.Handler].
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "want GET", http.StatusMethodNotAllowed)
		return
	}
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	switch {
	case !ok: // "/" and "/console": relative, so that it holds behind a proxy's prefix
		h.Set("Location", "console/")
		w.WriteHeader(http.StatusFound)
	case below != index && c.files[below].kind != "":
		if strings.HasPrefix(below, "assets/") { // their names change with what is in them
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		c.files[below].serve(w, r)
	case strings.HasPrefix(below, "assets/"):
		http.Error(w, "there is no such file", http.StatusNotFound)
	default:
		c.page(w, r, strings.Count(below, "/"))
	}
}

// page is the application, which finds out by itself what it is to show. up is
// how many segments above the page the console lies.
func (c *console) page(w http.ResponseWriter, r *http.Request, up int) {
	f, built := c.files[index]
	if !built {
		f = file{kind: "text/html; charset=utf-8", plain: []byte(missing)}
		f.serve(w, r)
		return
	}
	base := `<base href="./` + strings.Repeat("../", up) + `"`
	f.plain, f.small = bytes.Replace(f.plain, []byte(`<base href="/"`), []byte(base), 1), nil
	f.serve(w, r)
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	text := f.plain
	if f.small != nil {
		h.Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			text = f.small
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text)
	}
}

const missing = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>RCCS console</title>
<h1>The console is not in this program</h1>
<p>It was built without Node. Install Node 20 with npm and run <code>make build</code> again, or use a release.
<p>The same is to be had from the HTTP API under <code>/v1</code> and from the commands, such as <code>rccs status</code>.
</html>
`
