package api

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rccs-io/rccs/internal/timespec"
)

const (
	pageDefault = 100
	pageMax     = 1000
)

// Paged are the parameters of a list.
type Paged struct {
	Limit int    `query:"limit" minimum:"1" doc:"How many items at most: 100 by default; above 1,000 it is 1,000" example:"100"`
	After string `query:"after" maxLength:"1024" doc:"Where to go on: the next of the page before"`
}

func (p *Paged) limit() int {
	if p.Limit <= 0 {
		return pageDefault
	}
	return min(p.Limit, pageMax)
}

// List is a page of a list.
type List[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"The after of the next page; absent at the end"`
}

// listOutput is the answer of a list.
type listOutput[T any] struct {
	Body List[T]
}

// page is a page of items; next is what the last one goes on behind, when
// there are more.
func page[T any](items []T, more bool, last func(T) string) *listOutput[T] {
	out := &listOutput[T]{Body: List[T]{Items: append([]T{}, items...)}}
	if more && len(items) > 0 {
		out.Body.Next = mark(last(items[len(items)-1]))
	}
	return out
}

// pageOf is a page of a list that is in memory, in the order of its keys. It goes
// on behind the key of the last item before, whether or not that item is still
// there.
func pageOf[T any](all []T, in *Paged, key func(T) string) (*listOutput[T], error) {
	after, bad := in.position()
	if bad != nil {
		return nil, bad
	}
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	behind := slices.IndexFunc(all, func(item T) bool { return key(item) > after })
	if behind < 0 {
		behind = len(all)
	}
	all = all[behind:]
	more := len(all) > in.limit()
	return page(all[:min(len(all), in.limit())], more, key), nil
}

// mark makes a position opaque, so that nobody comes to rely on what it holds.
func mark(position string) string { return base64.RawURLEncoding.EncodeToString([]byte(position)) }

// position is the inverse of mark; an empty one is the beginning.
func (p *Paged) position() (string, *Problem) {
	raw, err := base64.RawURLEncoding.DecodeString(p.After)
	if err != nil || mark(string(raw)) != p.After || !utf8.Valid(raw) {
		return "", badRequest("after: not the next of a page of this list")
	}
	return string(raw), nil
}

// sequence is a position that is a sequence.
func (p *Paged) sequence() (uint64, *Problem) {
	text, bad := p.position()
	if bad != nil || text == "" {
		return 0, bad
	}
	seq, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, badRequest("after: not the next of a page of this list")
	}
	return seq, nil
}

// since reads a duration or a time of the past; empty is the beginning.
func (a *API) since(text string) (time.Time, *Problem) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := timespec.Since(text, a.opts.Now())
	if err != nil {
		return at, badRequest("since: " + err.Error())
	}
	return at, nil
}

// seqString is a sequence as a position.
func seqString(seq uint64) string { return strconv.FormatUint(seq, 10) }
