package subjects

// DeviceInbox is a filter for all lanes of a device's inbox.
func DeviceInbox(k Key) string { return inboxPrefix + string(k) + ".*" }

// UserInboxes is a filter for the inboxes of all devices of a user; an empty
// user is every one.
func UserInboxes(user UserID) string { return inboxPrefix + userToken(user) + ".*.*" }

// UserCursors is a filter for the cursors of all devices of a user; an empty
// user is every one.
func UserCursors(user UserID) string { return cursorPrefix + userToken(user) + ".*" }

func userToken(user UserID) string {
	if user == "" {
		return "*"
	}
	return Escape(string(user))
}
