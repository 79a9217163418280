// Package ui serves the dashboard: pages of HTML over the functions that the API
// has, at /ui of the API's address. Everything it needs is in the binary.
//
//	browser ─▶ api.Server: guard ─▶ ui: who? (api.Caller) ─▶ page ─▶ postgres, control
//	   ▲                                     │                 └──▶ template "content"
//	   └── events: the template "live" of the same page, when it changed
//	browser ─▶ form ─▶ question ─▶ action ─▶ a route of the API (api.Server.Do)
//
// A page is a function that reads its data, and a template. Its block "live" is sent
// again as a server-sent event whenever it comes out differently, so that what a
// page shows at first and what it shows later cannot differ. Without scripts a
// page is one moment.
//
// Who may see and do what is decided by the API: who signs in gets a session that
// stands for their key on every route, and what changes something is a request to
// a route of the API, with its checks. Pages of operators are refused to others
// as the admin routes are.
//
// Texts of clients and endpoints are escaped by html/template, and the
// Content-Security-Policy allows no script, style or image from elsewhere or in
// the page. Prompts and answers are on the page of a single request alone.
package ui
