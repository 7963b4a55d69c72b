package roster

// ReportActivity stores now what is otherwise stored every [reportEvery].
func (r *Roster) ReportActivity() { r.reportActivity() }
