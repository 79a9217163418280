package api

import "fusillade/internal/postgres"

// changed logs that a batch was changed, and by whom: an operator may have changed
// another owner's.
func (s *Server) changed(who caller, what string, b postgres.Batch, more ...any) {
	s.cfg.Log.Info(what, append([]any{"batch_id", b.ID, "owner", b.CreatedBy, "by", who.owner, "key_id", who.key}, more...)...)
}

// Audit logs what an operator has done: "by" is their owner and "key_id" the id of
// their API key, which fusillade keys ls shows.
func (s *Server) Audit(who Caller, what string, attrs ...any) {
	s.cfg.Log.Info(what, append(attrs[:len(attrs):len(attrs)], "by", who.Owner, "key_id", who.Key)...)
}
