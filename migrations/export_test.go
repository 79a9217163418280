package migrations

// The same as the exported functions, with other files.
var (
	UpFiles   = up
	DownFiles = down
	ListFiles = list
)

// LockID is the advisory lock that Up and Down hold.
const LockID = lockID
