package cli

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// CompletionScripts, by shell, ask the program itself, so that they fit whatever version
// is installed. Where it knows nothing the shell completes file names.
var CompletionScripts = map[string]string{
	"bash": `# In ~/.bashrc: source <(fusillade completion bash)
_fusillade() {
    local IFS=$'\n'
    COMPREPLY=($("$1" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _fusillade fusillade
`,
	"zsh": `#compdef fusillade
# In ~/.zshrc, after compinit: source <(fusillade completion zsh)
_fusillade() {
    local -a candidates
    candidates=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${candidates[1]}" ]]; then
        compadd -a candidates
    else
        _files
    fi
}
compdef _fusillade fusillade
`,
	"fish": `# In ~/.config/fish/config.fish: fusillade completion fish | source
function __fusillade_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    $words[1] complete -- $words[2..] (commandline --current-token --cut-at-cursor) 2>/dev/null
end
# Files where there is nothing else.
complete --command fusillade --no-files --condition 'count (__fusillade_complete) >/dev/null' --arguments '(__fusillade_complete)'
`,
}

// Candidates are what the last word may become. The commands are walked as the
// words before it name them. Where the word is the name of something, named asks
// for names that begin with it, by the placeholder of the argument, such as
// BATCH; flags are the values of those that stand before.
func Candidates(node *kong.Node, words []string, named func(placeholder, prefix string, flags map[string]string) []string) (out []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	typed, last := words[:len(words)-1], words[len(words)-1]
	var wants *kong.Flag // the flag whose value comes next
	flags := make(map[string]string)
	arguments := 0
	for _, word := range typed {
		switch {
		case wants != nil:
			flags[wants.Name], wants = word, nil
		case strings.HasPrefix(word, "-"):
			name, value, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
			flags[name] = value
			wants = flagBefore(node, word)
		default:
			if child := childOf(node, word); child != nil {
				node = child
			} else {
				arguments++
			}
		}
	}
	switch {
	case wants != nil:
		out = append(valuesOf(wants, last), named(wants.PlaceHolder, last, flags)...)
	case strings.HasPrefix(last, "-"):
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				out = append(out, "--"+flag.Name)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				out = append(out, child.Name)
			}
		}
		if n := len(node.Positional); n > 0 {
			positional := node.Positional[min(arguments, n-1)]
			if arguments < n || positional.IsCumulative() {
				out = append(out, positional.EnumSlice()...)
				out = append(out, named(positional.Tag.PlaceHolder, last, flags)...)
			}
		}
	}
	out = slices.DeleteFunc(out, func(candidate string) bool { return candidate == "" || !strings.HasPrefix(candidate, last) })
	slices.Sort(out)
	return slices.Compact(out)
}

// valuesOf are what a flag's word may become, of a list what is not in it yet.
func valuesOf(flag *kong.Flag, word string) []string {
	values := flag.EnumSlice()
	end := strings.LastIndex(word, ",") + 1
	if !flag.IsSlice() || end == 0 {
		return values
	}
	there := strings.Split(word[:end], ",")
	values = slices.DeleteFunc(values, func(value string) bool { return slices.Contains(there, value) })
	for i := range values {
		values[i] = word[:end] + values[i]
	}
	return values
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name || slices.Contains(child.Aliases, name) {
			return child
		}
	}
	return nil
}

// flagBefore is the flag that takes the next word as its value; nil: none does.
func flagBefore(node *kong.Node, word string) *kong.Flag {
	name := strings.TrimLeft(word, "-")
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			if (flag.Name == name || slices.Contains(flag.Aliases, name) || flag.Short != 0 && string(flag.Short) == name) && !flag.IsBool() && !flag.IsCounter() {
				return flag
			}
		}
	}
	return nil
}
