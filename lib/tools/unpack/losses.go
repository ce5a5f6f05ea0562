package unpack

import (
	"sync"

	"preserve/lib/id"
)

// losses are why blobs cannot be had, for the messages that follow. Many goroutines may use
// them.
type losses struct {
	losing sync.Mutex
	why    map[id.ID]error
}

// maxWhy bounds the reasons that are kept.
const maxWhy = 1000

// bad is walk.Options.Bad.
func (l *losses) bad(i id.ID, err error) {
	l.losing.Lock()
	defer l.losing.Unlock()
	if len(l.why) >= maxWhy || l.why == nil {
		l.why = map[id.ID]error{}
	}
	l.why[i] = err
}

// because says what is wrong with a blob.
func (l *losses) because(i id.ID) string {
	l.losing.Lock()
	defer l.losing.Unlock()
	if err := l.why[i]; err != nil {
		return "is damaged: " + err.Error()
	}
	return "is missing in the repository"
}
