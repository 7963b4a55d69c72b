package roster

// ReportActivity looks now at what is otherwise looked at every [reportEvery].
func (r *Roster) ReportActivity() {
	for _, sl := range r.allSlots() {
		r.reportActivity(sl)
	}
}
