package batch

import "fmt"

// ModelLimits bound how many models files may name. Zero fields bound nothing.
type ModelLimits struct {
	PerOwner int // in the files of one owner
	Total    int // in all files
}

// ModelLimitError is returned for a file that names a model which would be one
// more than allowed. Models of files that are deleted do not count.
type ModelLimitError struct {
	Model Model // the first, by name, that is not in other files
	Limit int
	Total bool // the limit is that of all files, not of the owner's
}

// Error names the model and the limit.
func (e *ModelLimitError) Error() string {
	where := "the owner's files"
	if e.Total {
		where = "the files of all owners"
	}
	return fmt.Sprintf("the model %.300q would be one more than the %d models that %s may name", string(e.Model), e.Limit, where)
}

func (*ModelLimitError) refused() {}
