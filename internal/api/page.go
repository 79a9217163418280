package api

// page is a list of objects, or a part of one, as OpenAI has it.
type page[T identified] struct {
	Object  string  `json:"object"`
	Data    []T     `json:"data"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
	HasMore bool    `json:"has_more"`
}

// identified is an object that lists name by its id.
type identified interface{ id() string }

// pageOf makes a page of what was found, which is one more than the limit if
// there are more.
func pageOf[F any, T identified](found []F, limit int, object func(F) T) page[T] {
	out := page[T]{Object: "list", HasMore: len(found) > limit}
	found = found[:min(len(found), limit)]
	out.Data = make([]T, len(found))
	for i, f := range found {
		out.Data[i] = object(f)
	}
	if n := len(out.Data); n > 0 {
		out.FirstID, out.LastID = optional(out.Data[0].id()), optional(out.Data[n-1].id())
	}
	return out
}

// wholePage makes a list of one page.
func wholePage[F any, T identified](found []F, object func(F) T) page[T] {
	return pageOf(found, len(found), object)
}
