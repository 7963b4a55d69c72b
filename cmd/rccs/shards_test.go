package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// dividedUsers are users of each of four shards.
var dividedUsers = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}

// A tenant with several shards is looked at as one with a single shard: the same
// devices and messages give the same answers.
func TestEveryAnswerIsTheSameForSeveralShards(t *testing.T) {
	t.Parallel()
	shards := map[int]bool{}
	for _, u := range dividedUsers {
		shards[shard.OfUser(subjects.UserID(u), 4)] = true
	}
	if len(shards) != 4 {
		t.Fatalf("the users are in the shards %v", shards)
	}
	var places [2]*installation
	var seen [2][]string
	for n, args := range [][]string{nil, {"--shards", "4"}} {
		places[n] = serve(t, args...)
		tail := places[n].console().start(t, "tail", "--json", "--kinds", "inbox", "--count", fmt.Sprint(5*len(dividedUsers)))
		tail.noted("watching")
		places[n].live(t)
		if s := places[n].get(t, "/v1/status"); !strings.Contains(s, `"url":"`+places[n].nats+`"`) {
			t.Errorf("the status says of the server %s: want its address, %s", s, places[n].nats)
		}
		if status := tail.exit(); status != exitOK {
			t.Errorf("tail ended with status %d: %s", status, tail.stderr())
		}
		for line := range tail.lines {
			seen[n] = append(seen[n], plainly(t, line))
		}
		slices.Sort(seen[n]) // shards are watched one beside the other
	}
	if !slices.Equal(seen[0], seen[1]) {
		t.Errorf("tail: with one shard\n%s\nwith four\n%s", seen[0], seen[1])
	}
	deadline := time.Now().Add(testkit.Patience) // cursors are stored a moment later
	for name, ask := range dividedQuestions() {
		want, got := "", ""
		same := func() bool {
			want, got = ask(t, places[0]), ask(t, places[1])
			return want == got
		}
		for !same() && time.Now().Before(deadline) {
			<-time.After(50 * time.Millisecond)
		}
		if got != want {
			t.Errorf("%s: with one shard\n%s\nwith four\n%s", name, want, got)
		}
		if len(want) < 20 {
			t.Errorf("%s says nothing: %s", name, want)
		}
	}
}

// Copies for a user of another shard are stored there, once and in order, and the
// device gets them as a replay.
func TestAReplayToAUserOfAnotherShardIsStoredInThatShard(t *testing.T) {
	t.Parallel()
	place := serve(t, "--shards", "4")
	place.live(t)
	c := place.console()
	stored := func(user string) (ids []string) {
		var page struct {
			Items []struct {
				ID     string `json:"id"`
				Replay bool   `json:"replay"`
			} `json:"items"`
		}
		testkit.Check(t, json.Unmarshal([]byte(place.get(t, "/v1/users/"+user+"/devices/phone/inbox?state=all")), &page))
		for _, m := range page.Items {
			if m.Replay {
				ids = append(ids, m.ID)
			}
		}
		return ids
	}
	from, to := "alice", ""
	for _, u := range dividedUsers {
		if shard.OfUser(subjects.UserID(u), 4) != shard.OfUser(subjects.UserID(from), 4) {
			to = u
		}
	}
	want := []string{"alice0", "alice1", "alice2", "alice3"}
	c.succeed(t, "replay", from+"/phone", "--since", "1h", "--to", to+"/phone", "--dry-run")
	if got := stored(to); len(got) != 0 {
		t.Errorf("a dry run has stored %q", got)
	}
	got := c.succeed(t, "replay", from+"/phone", "--since", "1h", "--to", to+"/phone")
	if !strings.HasPrefix(got.out, "replayed 4 from "+from+"/phone to "+to+"/phone, seq ") {
		t.Errorf("printed %q", got.out)
	}
	if got := stored(to); !slices.Equal(got, want) {
		t.Errorf("stored for %s: %q, want %q", to, got, want)
	}
	if got := stored(from); len(got) != 0 {
		t.Errorf("stored for %s: %q", from, got)
	}
	keys, err := auth.OpenKeystore(place.data)
	testkit.Check(t, err)
	token, err := keys.IssueDevice(subjects.Address{User: subjects.UserID(to), Device: "phone"}, auth.DeviceOptions{Bearer: true, Expires: time.Hour})
	testkit.Check(t, err)
	d := devicetest.Connect(t, place.edge, devicetest.How{})
	d.Register(token.JWT, "")
	for came := map[any]bool{}; len(came) < len(want); {
		m := d.Until("notification")
		if m["replay"] != true {
			continue // the one that it has not acknowledged
		}
		if id := m["id"]; came[id] || !slices.Contains(want, fmt.Sprint(id)) {
			t.Errorf("%v came, after %v", id, came)
		}
		came[m["id"]] = true
	}
	c.run(t, "replay", from+"/phone", "--since", "1h", "--to", to+"/nobody").refused(t, exitFailed, to+"/nobody", "never registered")
}

// After a restore that has divided users anew, a credential of before would look for
// them in other shards.
func TestACredentialForAnotherNumberOfShardsIsRefused(t *testing.T) {
	t.Parallel()
	for _, has := range []int{1, 4} {
		place := serve(t, "--shards", fmt.Sprint(has))
		c := place.console()
		for _, named := range []int{1, 2, 4, 8} {
			before := filepath.Join(t.TempDir(), "before") // the directory that was backed up
			testkit.Check(t, os.CopyFS(filepath.Join(before, "keys"), os.DirFS(filepath.Join(place.data, "keys"))))
			testkit.Check(t, filepath.WalkDir(filepath.Join(before, "keys"), func(path string, _ fs.DirEntry, _ error) error { return os.Chmod(path, 0o700) }))
			keys, err := auth.OpenKeystore(before)
			testkit.Check(t, err)
			_, err = keys.Divide(named)
			testkit.Check(t, err)
			keys, err = auth.OpenKeystore(before)
			testkit.Check(t, err)
			cred, err := keys.IssuePart("operator")
			testkit.Check(t, err)
			text, err := cred.File()
			testkit.Check(t, err)
			creds := file(t, string(text))
			if named == has {
				c.succeed(t, "devices", "ls", "--creds", creds)
				continue
			}
			out := filepath.Join(t.TempDir(), "b.tar")
			told := fmt.Sprintf("for %d shard", named)
			for _, line := range append(operatorCommands(), "later ls", "inbox rejected", "later cancel a m", "audit", "backup --no-keys --out "+out) {
				c.run(t, append(strings.Fields(line), "--creds", creds)...).refused(t, exitFailed, told, fmt.Sprintf("the tenant has %d shard", has), "'rccs creds part'")
			}
			for _, part := range [][]string{{"edge", "--listen", "127.0.0.1:0"}, {"coordinator"}} {
				got := c.run(t, append(part, "--creds", creds, "--admin-listen", "")...)
				if got.status != exitFailed || !strings.Contains(got.err, told) || !strings.Contains(got.err, "'rccs creds part'") {
					t.Errorf("%v: status %d: %s", part, got.status, got.err)
				}
			}
			c.run(t, "inbox", "purge", "a/b", "--yes", "--data", before).refused(t, exitFailed, told, "--data")
		}
	}
}

// The shards that an edge is given are those of the first tenant. Another tenant may
// have fewer, and is served all the same.
func TestAnEdgeOfSomeShardsServesATenantThatHasFewer(t *testing.T) {
	t.Parallel()
	i := serve(t, "--shards", "4")
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	c.succeed(t, "send", "alice/phone", `"for the phone"`, "--tenant", "acme")
	edge := c.start(t, "edge", "--shards", "2-3", "--listen", "127.0.0.1:0", "--admin-listen", "")
	c.vars["RCCS_URL"] = edge.await(`^devices +(ws://\S+)$`)[1]
	if got := c.succeed(t, "connect", "alice/phone", "--tenant", "acme", "--count", "1", "--timeout", patient).out; !strings.Contains(got, `"for the phone"`) {
		t.Errorf("the device got %q", got)
	}
	edge.stop()
	c.run(t, "edge", "--tenant", "acme", "--shards", "2-3", "--listen", "127.0.0.1:0", "--admin-listen", "").refused(t, exitFailed, "the tenant has one shard: leave --shards out")
	c.run(t, "edge", "--shards", "3-2").refused(t, exitUsage, "want numbers and ranges from 0 to 63")
}

// RCCS_SHARDS is how many shards there are, and for an edge which of them it serves. One
// that was meant for another command is refused, and told how to write it.
func TestTheVariableOfShardsIsNotTakenForWhatItIsNot(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	console{vars: map[string]string{"RCCS_DATA": data, "RCCS_SHARDS": "8"}}.run(t, "edge").refused(t, exitUsage, `RCCS_SHARDS="8"`, "0-7", "8-8")
	for _, line := range []string{"serve", "tenants add acme", "restore x.tar", "creds part a --init"} {
		console{vars: map[string]string{"RCCS_DATA": data, "RCCS_SHARDS": "0-3"}}.run(t, strings.Split(line, " ")...).
			refused(t, exitUsage, `RCCS_SHARDS="0-3"`, "want a number from 1 to 64", "'rccs edge'")
	}
	console{}.run(t, "serve", "--data", data, "--shards", "0-3").refused(t, exitUsage, "want a number from 1 to 64", "'rccs edge'")
}

// When a shard cannot be read, lists have what is in the others, and say what is missing.
func TestListsWithoutAShardSayWhichOneIsMissing(t *testing.T) {
	t.Parallel()
	place := serve(t, "--shards", "4")
	place.live(t)
	c := place.console()
	user, n := high(t)
	js, err := jetstream.New(place.part(t, "default"), jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	lists := map[string]string{"devices ls": "KV_RCCS_DEVICES_", "inbox ls": "RCCS_INBOX_", "later ls": "RCCS_LATER_", "edges ls": "KV_RCCS_EDGES_"}
	others := make(map[string][]string)
	for line := range lists {
		got := c.succeed(t, append(strings.Split(line, " "), "--json")...).out
		var all []struct{ User, Name string }
		testkit.Check(t, json.Unmarshal([]byte(got), &all))
		for _, one := range all {
			if one.User == "" || shard.OfUser(subjects.UserID(one.User), 4) != n {
				others[line] = append(others[line], one.User+one.Name)
			}
		}
	}
	for line, stream := range lists {
		testkit.Check(t, js.DeleteStream(t.Context(), fmt.Sprint(stream, n)))
		r := c.run(t, append(strings.Split(line, " "), "--json")...)
		if r.status != exitFailed || !strings.Contains(r.err, fmt.Sprintf("incomplete: what is in shard %d of 4 is missing", n)) {
			t.Errorf("%s ended with %d: %s", line, r.status, r.err)
		}
		if len(others[line]) == 0 {
			if r.out != "" {
				t.Errorf("%s printed %s, and nothing is known", line, r.out)
			}
			continue
		}
		var all []struct{ User, Name string }
		testkit.Check(t, json.Unmarshal([]byte(r.out), &all))
		var left []string
		for _, one := range all {
			left = append(left, one.User+one.Name)
		}
		if !slices.Equal(left, others[line]) || slices.Contains(left, user) {
			t.Errorf("%s has %q, want %q", line, left, others[line])
		}
		if table := c.run(t, strings.Split(line, " ")...); table.status != exitFailed || !strings.Contains(table.out, others[line][0]) {
			t.Errorf("%s ended with %d and printed %q", line, table.status, table.out)
		}
	}
}

// get is the answer to an HTTP request of the admin listener.
func (i *installation) get(t *testing.T, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.admin+path, nil)
	testkit.Check(t, err)
	resp, err := http.DefaultClient.Do(r)
	testkit.Check(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	testkit.Check(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %d %s", path, resp.StatusCode, text)
	}
	return string(text)
}

// live has something of every kind happen to each user.
func (i *installation) live(t *testing.T) {
	t.Helper()
	keys, err := auth.OpenKeystore(i.data)
	testkit.Check(t, err)
	cred, err := keys.IssueService("billing", auth.ServiceOptions{})
	testkit.Check(t, err)
	nc, err := nats.Connect(i.nats, cred.Option(), nats.Timeout(testkit.Patience))
	testkit.Check(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	put := func(subject, id string, headers ...string) {
		m := nats.NewMsg(subject)
		m.Header.Set(subjects.HeaderID, id)
		for n := 0; n < len(headers); n += 2 {
			m.Header.Set(headers[n], headers[n+1])
		}
		m.Data = []byte(`{"id":"` + id + `"}`)
		_, err := js.PublishMsg(t.Context(), m)
		testkit.Check(t, err)
	}
	due := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	put("rccs.route.bob.any.tablet", "route") // to nobody
	put("rccs.topic.news", "news")
	for _, u := range dividedUsers {
		phone := subjects.Address{User: subjects.UserID(u), Device: "phone"}
		for n := range 4 {
			put(subjects.Inbox(phone.Key(), subjects.Lane(n)), fmt.Sprint(u, n))
		}
		put(subjects.Inbox(subjects.Address{User: phone.User, Device: "away"}.Key(), subjects.Normal), "away")
		put("rccs.later."+u+".phone.normal."+u+"later", u+"later", "Nats-Schedule", "@at "+due, "Nats-Schedule-Target", "rccs.due."+u+".phone.normal")
		token, err := keys.IssueDevice(phone, auth.DeviceOptions{Bearer: true, Expires: time.Hour})
		testkit.Check(t, err)
		d := devicetest.Connect(t, i.edge, devicetest.How{})
		d.Register(token.JWT, `,"type":"mobile"`)
		for n := range 4 { // the first two are acknowledged, one is refused, one is not answered
			m := d.Until("notification")
			switch n {
			case 0, 1:
				d.Ack(m)
			case 2:
				d.Send(fmt.Sprintf(`{"type":"ack","payload":{"reject":{"seq":%v,"reason":"no room"}}}`, m["seq"]))
			}
		}
	}
}

// dividedQuestions are what is asked, by name.
func dividedQuestions() map[string]func(*testing.T, *installation) string {
	all := map[string]func(*testing.T, *installation) string{}
	command := func(args ...string) {
		all["rccs "+strings.Join(args, " ")] = func(t *testing.T, i *installation) string {
			return plainly(t, i.console().succeed(t, append(args, "--json")...).out)
		}
	}
	get := func(path string) {
		all["GET "+path] = func(t *testing.T, i *installation) string {
			return plainly(t, i.get(t, path))
		}
	}
	command("status", "--interval", "0")
	command("doctor")
	command("devices", "ls")
	command("inbox", "ls")
	command("inbox", "rejected")
	command("later", "ls")
	for _, id := range []string{"away", "alice1", "davelater", "news"} { // the first is one of each user
		command("trace", id)
	}
	command("edges", "ls")
	get("/v1/status")
	get("/v1/doctor")
	get("/v1/users")
	get("/v1/devices")
	get("/v1/devices?limit=3")
	get("/v1/edges")
	for _, u := range dividedUsers[:4] {
		command("devices", "show", u+"/phone")
		command("inbox", "show", u+"/phone")
		command("missed", u+"/phone")
		command("replay", u+"/phone", "--since", "1h", "--dry-run")
		command("replay", u+"/phone", "--since", "1h", "--dry-run", "--to", "heidi/phone")
		command("trace", u+"1", u+"/phone")
		get("/v1/users/" + u + "/devices")
		get("/v1/users/" + u + "/devices/phone")
		get("/v1/users/" + u + "/devices/phone/inbox?state=all")
		get("/v1/users/" + u + "/messages/" + u + "1")
	}
	return all
}

// varying are the members of JSON that differ from one installation to another: times,
// sequences of streams, ids that are made, and what the machine does.
var varying = regexp.MustCompile(`^(at|seq|first|last|settled|sent|oldest|oldestSeq|cursorAt|outcomeAt|since|lastSeen|registered|registeredAt|renewed|session|epoch|timestamp|stored(At)?|rejectedAt|due|server|servers|process|run|store|bytes|perSecond|consumers|coordinators|started|id|address|used|rttNanos|uptime.*|next|account|edge|name)$`)

// moments are times within a text.
var moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)

// plainly is JSON without what varies.
func plainly(t *testing.T, text string) string {
	t.Helper()
	text = moments.ReplaceAllString(text, "then")
	var lines []string
	for decoder := json.NewDecoder(strings.NewReader(text)); ; {
		var v any
		err := decoder.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		out, err := json.MarshalIndent(withoutVarying(v), "", " ")
		testkit.Check(t, err)
		lines = append(lines, string(out))
	}
	return strings.Join(lines, "\n")
}

func withoutVarying(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if streams, ok := v["streams"].([]any); ok {
			v["streams"] = withoutShards(streams)
		}
		if stream, ok := v["stream"].(string); ok {
			v["stream"] = ofShard.ReplaceAllString(stream, "")
		}
		maps.DeleteFunc(v, func(name string, member any) bool {
			_, number := member.(float64)
			return varying.MatchString(name) && (name != "stored" || !number)
		})
		for name, member := range v {
			v[name] = withoutVarying(member)
		}
	case []any:
		for n := range v {
			v[n] = withoutVarying(v[n])
		}
	}
	return v
}

// ofShard is the shard's number at the end of a stream's name.
var ofShard = regexp.MustCompile(`_\d+$`)

// withoutShards adds up the messages of the streams of all shards. That of cursors
// depends on when devices acknowledged, that of edges has one lease for each shard.
func withoutShards(streams []any) map[string]float64 {
	sums := make(map[string]float64)
	for _, one := range streams {
		s, _ := one.(map[string]any)
		name, _ := s["name"].(string)
		messages, _ := s["messages"].(float64)
		if name = ofShard.ReplaceAllString(name, ""); name != "RCCS_CURSOR" && name != "KV_RCCS_EDGES" {
			sums[name] += messages
		}
	}
	return sums
}
