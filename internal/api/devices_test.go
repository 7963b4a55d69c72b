package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

type deviceList struct {
	Items []struct{ User, Device, Status string }
	Next  string
}

func TestDevicesOfAllUsersAreListedInPages(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	for _, name := range []string{"alice/phone", "alice/watch", "bob/phone"} {
		p.connect(name, "")
	}
	var seen []string
	for after := ""; ; {
		var list deviceList
		got := p.get("/v1/devices?limit=1&after=" + after)
		if got.into(t, &list); got.status != http.StatusOK || len(list.Items) > 1 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for _, d := range list.Items {
			seen = append(seen, d.User+"/"+d.Device)
		}
		if after = list.Next; after == "" {
			break
		}
	}
	if len(seen) != 3 || seen[0] != "alice/phone" || seen[1] != "alice/watch" || seen[2] != "bob/phone" {
		t.Errorf("the pages list %q", seen)
	}
	for q, want := range map[string]int{"": 3, "phone": 2, "ali": 2, "alice/w": 1, "ALICE/Ph": 1, "nobody": 0} {
		var list deviceList
		got := p.get("/v1/devices?q=" + url.QueryEscape(q))
		if got.into(t, &list); got.status != http.StatusOK || len(list.Items) != want {
			t.Errorf("q=%q: %d %s, want %d devices", q, got.status, got.body, want)
		}
	}
	if got := p.get("/v1/devices?after=nonsense!"); got.status != http.StatusBadRequest {
		t.Errorf("a wrong after: %d %s", got.status, got.body)
	}
}

// A name of dots alone is a name where a client leaves %2E as it is.
func TestNamesOfDotsAreNamesInAPath(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	for user, device := range map[string]string{".": "..", "..": "."} {
		p.connect(user+"/"+device, "")
		encoded := func(name string) string { return strings.ReplaceAll(name, ".", "%2E") }
		var got struct{ User, Device string }
		if a := p.get("/v1/users/" + encoded(user) + "/devices/" + encoded(device)); a.status != http.StatusOK {
			t.Errorf("%s of %s: %d %s", device, user, a.status, a.body)
		} else if a.into(t, &got); got.User != user || got.Device != device {
			t.Errorf("%s of %s is %+v", device, user, got)
		}
		if a := p.delete("/v1/users/" + encoded(user) + "/messages/none"); a.status != http.StatusOK {
			t.Errorf("cancelled for %s: %d %s", user, a.status, a.body)
		}
	}
}

func TestAUserWithoutDevicesHasAnEmptyList(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	var list deviceList
	if got := p.get("/v1/users/nobody/devices"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	} else if got.into(t, &list); list.Items == nil || len(list.Items) != 0 {
		t.Errorf("%s", got.body)
	}
}
