// Go clients behind one long-lived process: franz-go and sarama ("library" in each command).
// One JSON command per line on standard input, one JSON answer per line on standard output; drivers.py describes the commands.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

// Command is what a line of standard input holds; which fields count depends on Do.
type Command struct {
	Do         string
	Library    string
	Bootstrap  string
	Topic      string
	Codec      string
	Idempotent bool
	Records    []Record
	Count      int
	Committed  bool
	TimeoutMs  int64 `json:"timeout_ms"`
	Member     string
	Group      string
	Strategy   string
	Instance   *string
	Login      Login
	ClientID   string `json:"client_id"`
	PauseMs    int64  `json:"pause_ms"`
	Visits     []Command
}

// Record is a message as it is written or was read. Byte slices are base64 in JSON, null is nil.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp *int64   `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

// Header is the pair [name, value] in JSON.
type Header struct {
	Name  string
	Value []byte
}

func (header Header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{header.Name, header.Value})
}

func (header *Header) UnmarshalJSON(data []byte) error {
	var value *[]byte
	pair := []any{&header.Name, &value}
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if value != nil {
		header.Value = *value
	}
	return nil
}

// Answer is what a line of standard output holds.
type Answer struct {
	Error      string    `json:"error,omitempty"`
	Offsets    []int64   `json:"offsets,omitempty"`
	Records    []Record  `json:"records,omitempty"`
	Assignment []int32   `json:"assignment"`
	Received   [][]byte  `json:"received"`
	Rebalances int       `json:"rebalances"`
	Problem    string    `json:"problem"`
	Problems   []*string `json:"problems,omitempty"`
}

// Library is a Go client.
type Library interface {
	produce(command Command) ([]int64, error)
	consume(command Command) ([]Record, error)
	join(command Command) (*Member, error)
	login(bootstrap string, login Login) error
}

// Member is a member of a consumer group that runs in goroutines; stop makes it leave.
type Member struct {
	sync.Mutex
	assignment map[int32]bool
	received   [][]byte
	rebalances int
	problem    string
	stop       func()
}

func newMember() *Member {
	return &Member{assignment: map[int32]bool{}, received: [][]byte{}}
}

func (member *Member) describe() Answer {
	member.Lock()
	defer member.Unlock()
	partitions := []int32{}
	for partition := range member.assignment {
		partitions = append(partitions, partition)
	}
	sort.Slice(partitions, func(a, b int) bool { return partitions[a] < partitions[b] })
	received := append([][]byte{}, member.received...)
	return Answer{Assignment: partitions, Received: received, Rebalances: member.rebalances, Problem: member.problem}
}

func (member *Member) failed(err error) {
	member.Lock()
	member.problem = err.Error()
	member.Unlock()
}

var libraries = map[string]Library{"franz-go": franz{}, "sarama": saramaLibrary{}}
var members = map[string]*Member{}

func carryOut(command Command) (answer Answer, err error) {
	library, known := libraries[command.Library]
	if !known {
		return answer, fmt.Errorf("no library %q", command.Library)
	}
	switch command.Do {
	case "produce":
		answer.Offsets, err = library.produce(command)
	case "consume":
		answer.Records, err = library.consume(command)
	case "join":
		members[command.Member], err = library.join(command)
	case "login":
		err = library.login(command.Bootstrap, command.Login)
	case "visit":
		answer.Problems = visitAll(command.Visits)
	case "member":
		answer = members[command.Member].describe()
	case "leave":
		members[command.Member].stop()
		delete(members, command.Member)
	default:
		err = fmt.Errorf("no command %q", command.Do)
	}
	return answer, err
}

func (command Command) deadline() time.Time {
	return time.Now().Add(time.Duration(command.TimeoutMs) * time.Millisecond)
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var command Command
		answer := Answer{}
		if err = json.Unmarshal(line, &command); err == nil {
			answer, err = carryOut(command)
		}
		if err != nil {
			answer.Error = err.Error()
		}
		text, _ := json.Marshal(answer)
		fmt.Println(string(text))
	}
}
