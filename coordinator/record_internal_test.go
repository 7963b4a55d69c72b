package coordinator

import "testing"

func TestTheOldestRecordedDeliveryIsForgottenFirst(t *testing.T) {
	t.Parallel()
	var d deliveries
	for seq := range uint64(maxDelivered + 1) {
		d.add(seq, delivery{place: "first"})
	}
	d.add(1, delivery{place: "again"}) // a message that is delivered again takes no second place
	if _, here := d.remove(0); here {
		t.Error("the oldest delivery is still there")
	}
	if one, here := d.remove(1); !here || one.place != "again" {
		t.Errorf("the second delivery: %v, %v; want the later one", one, here)
	}
	if _, here := d.remove(maxDelivered); !here {
		t.Error("the last delivery is gone")
	}
	if _, here := d.remove(1); here {
		t.Error("a delivery was taken twice")
	}
	if len(d.order) > maxDelivered || len(d.all) > maxDelivered {
		t.Errorf("%d and %d are kept, want at most %d", len(d.order), len(d.all), maxDelivered)
	}
}
