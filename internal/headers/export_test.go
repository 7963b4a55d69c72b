package headers

// Known returns how many values of headers are known.
func Known() int {
	lately.mu.RLock()
	defer lately.mu.RUnlock()
	return len(lately.known)
}
