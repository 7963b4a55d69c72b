package deploy_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/need"
)

// The dashboard is drawn without Grafana, which this machine may not have: each
// panel where the file puts it, with what Prometheus answers to its queries.

var picture = flag.String("picture", "", "draw the dashboard after four minutes of messages into this file")

// dashboard is deploy/grafana/rccs.json.
type dashboard struct{ Panels []panel }

type panel struct {
	Type, Title string
	GridPos     struct{ H, W, X, Y float64 }
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []struct{ Expr, LegendFormat string }
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile("grafana/rccs.json")
	check(t, err)
	d := &dashboard{}
	check(t, json.Unmarshal(text, d))
	return d
}

// expr is a query with the dashboard's variables filled in.
func expr(text string) string {
	return strings.NewReplacer("$__rate_interval", "30s", "$tenant", ".*").Replace(text)
}

// line is one series over time.
type line struct {
	name   string
	points [][2]float64
}

// overTime asks for a query's series between two times.
func (m *monitor) overTime(query, legend string, from, to time.Time) (all []line) {
	m.t.Helper()
	ask := url.Values{"query": {expr(query)}, "step": {"2"}, "start": {fmt.Sprint(from.Unix())}, "end": {fmt.Sprint(to.Unix())}}
	resp, err := http.Get(m.url + "/api/v1/query_range?" + ask.Encode()) //nolint:noctx // it ends with the test
	check(m.t, err)
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	check(m.t, json.NewDecoder(resp.Body).Decode(&answer))
	for _, r := range answer.Data.Result {
		l := line{name: legend}
		for label, value := range r.Metric {
			l.name = strings.ReplaceAll(l.name, "{{"+label+"}}", value)
		}
		for _, v := range r.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			if y, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(y) && !math.IsInf(y, 0) {
				l.points = append(l.points, [2]float64{at, y})
			}
		}
		if len(l.points) > 0 {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b line) int { return strings.Compare(a.name, b.name) })
	return all
}

// amount writes a value in the unit of its panel.
func amount(v float64, unit string) string {
	scaled := func(steps []string, base float64, suffix string) string {
		n := 0
		for v >= base && n < len(steps)-1 {
			v /= base
			n++
		}
		return strconv.FormatFloat(v, 'g', 3, 64) + steps[n] + suffix
	}
	switch {
	case unit == "percentunit":
		return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
	case unit == "bytes":
		return scaled([]string{" B", " KiB", " MiB", " GiB"}, 1024, "")
	case unit == "s" && v < 1:
		return strconv.FormatFloat(1000*v, 'g', 3, 64) + " ms"
	case unit == "s":
		return strconv.FormatFloat(v, 'g', 3, 64) + " s"
	case unit == "ops":
		return scaled([]string{"", "k", "M"}, 1000, "/s")
	}
	return scaled([]string{"", "k", "M"}, 1000, "")
}

var colours = []string{"#1b6ca8", "#c2571a", "#3a7d44", "#8a3ffc", "#b5179e", "#6b705c", "#d4a017", "#00798c"}

const column, row, legendLines = 50.0, 26.0, 3 // of the grid, and of a legend

// draw writes one panel as SVG.
func (p *panel) draw(b *strings.Builder, m *monitor, from, to time.Time) {
	x, y, w, h := p.GridPos.X*column+6, p.GridPos.Y*row+6, p.GridPos.W*column-12, p.GridPos.H*row-8
	text := func(x, y float64, class, s string) {
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(s))
	}
	if p.Type == "row" {
		text(x, y+16, "row", p.Title)
		return
	}
	fmt.Fprintf(b, `<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" class="panel"/>`+"\n", x, y, w, h)
	text(x+8, y+16, "title", p.Title)
	var lines []line
	for _, target := range p.Targets {
		lines = append(lines, m.overTime(target.Expr, target.LegendFormat, from, to)...)
	}
	unit := p.FieldConfig.Defaults.Unit
	if p.Type == "stat" {
		var values []string
		for _, l := range lines {
			values = append(values, amount(l.points[len(l.points)-1][1], unit))
		}
		text(x+8, y+62, "value", strings.Join(values, " / "))
		return
	}
	top := 0.0
	for _, l := range lines {
		for _, point := range l.points {
			top = max(top, point[1])
		}
	}
	if top == 0 {
		top = 1
	}
	left, right, high, low := x+64, x+w-10, y+28, y+h-14*legendLines-10
	for _, part := range []float64{0, 0.5, 1} {
		at := low - part*(low-high)
		fmt.Fprintf(b, `<path d="M%.0f %.0fH%.0f" class="grid"/>`+"\n", left, at, right)
		text(x+6, at+4, "axis", amount(part*top, unit))
	}
	// What never was more than nothing is left out of the legend first.
	slices.SortStableFunc(lines, func(a, b line) int { return len(b.points) - len(a.points) })
	slices.SortStableFunc(lines, func(a, b line) int { return boolean(b.rises()) - boolean(a.rises()) })
	for n, l := range lines {
		colour := colours[n%len(colours)]
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, colour)
		for _, point := range l.points {
			along := (point[0] - float64(from.Unix())) / to.Sub(from).Seconds()
			fmt.Fprintf(b, "%.1f,%.1f ", left+along*(right-left), low-point[1]/top*(low-high))
		}
		b.WriteString(`"/>` + "\n")
		if n < 2*legendLines {
			lx, ly := x+10+float64(n%2)*w/2, low+18+float64(n/2)*14
			fmt.Fprintf(b, `<path d="M%.0f %.0fh12" stroke="%s" stroke-width="3"/>`+"\n", lx, ly-4, colour)
			text(lx+16, ly, "axis", shortened(l.name, 26))
		}
	}
	if more := len(lines) - 2*legendLines; more > 0 {
		text(right-60, high+10, "axis", fmt.Sprintf("and %d more", more))
	}
}

func (l *line) rises() bool {
	return slices.ContainsFunc(l.points, func(p [2]float64) bool { return p[1] > 0 })
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func shortened(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "…"
	}
	return s
}

const pictureStyle = `<style>text{font:11px system-ui,sans-serif;fill:#333}.row{font-size:14px;font-weight:600}.title{font-weight:600;font-size:12px}` +
	`.value{font-size:26px;font-weight:600}.axis{font-size:10px;fill:#555}.panel{fill:#fff;stroke:#d5d9de}.grid{stroke:#e6e9ec}</style>`

// drawDashboard writes the picture.
func drawDashboard(m *monitor, d *dashboard, from, to time.Time, path string) {
	m.t.Helper()
	var b strings.Builder
	rows := 0.0
	for i := range d.Panels {
		rows = max(rows, d.Panels[i].GridPos.Y+d.Panels[i].GridPos.H)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="The dashboard of RCCS">`+"\n%s\n", 24*column, rows*row+8, pictureStyle)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#f4f5f7"/>`+"\n")
	for i := range d.Panels {
		d.Panels[i].draw(&b, m, from, to)
	}
	b.WriteString("</svg>\n")
	check(m.t, os.WriteFile(path, []byte(b.String()), 0o644))
}

// The picture shows a device that was away for a while: what waits for it piles
// up, and goes when it is back.
func TestThePictureOfTheDashboard(t *testing.T) {
	if *picture == "" {
		need.Skip(t, "the picture is drawn with -picture FILE")
	}
	s := serve(t)
	admin := "127.0.0.1:" + freePort(t)
	edge := []string{"edge", "--data", s.data, "--server", "nats://" + s.nats, "--name", "edge-1", "--listen", "127.0.0.1:0", "--admin-listen", admin}
	at := after(t, start(t, program, edge...), "devices", "ws://")
	m := watch(t, s.admin, admin)
	from := time.Now()
	device := func(ctx context.Context, name, address string) *client.Client {
		t.Helper()
		c, err := client.Dial(ctx, "ws://"+address, &client.Options{Credentials: credentials(t, s, name), Type: name})
		check(t, err)
		return c
	}
	desktop := device(t.Context(), "desktop", s.devices)
	defer func() { _ = desktop.Close() }()
	ctx := t.Context()
	reading := func() (stop func()) {
		phone := device(ctx, "phone", at)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				msg, err := phone.Receive(ctx)
				if err != nil {
					return
				}
				msg.Ack()
			}
		}()
		return func() { _ = phone.Close(); <-done }
	}
	stop := reading()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	away, back, end := from.Add(80*time.Second), from.Add(140*time.Second), from.Add(4*time.Minute)
	for now := from; now.Before(end); now = <-tick.C {
		_, err := desktop.SendJSON(t.Context(), "note", "hello", client.To("phone"))
		check(t, err)
		switch {
		case stop != nil && now.After(away) && now.Before(back):
			stop()
			stop = nil
		case stop == nil && now.After(back):
			stop = reading()
		}
	}
	stop()
	drawDashboard(m, readDashboard(t), from, end, *picture)
}
