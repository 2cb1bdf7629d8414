package output

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Of returns the fields of a message of the API under the names that its .proto file
// has. Unlike the API's own JSON, numbers are numbers, enums are Words, and nothing is
// left out but messages that are absent: a script finds each field each time.
func Of(m proto.Message) Fields {
	fields := Fields{}
	message := m.ProtoReflect()
	all := message.Descriptor().Fields()
	for i := range all.Len() {
		field := all.Get(i)
		if field.HasPresence() && !message.Has(field) {
			continue
		}
		fields.Add(string(field.Name()), valueOf(field, message.Get(field)))
	}
	return fields
}

// List is Of for each of them; [] for none.
func List[M proto.Message](messages []M) []Fields {
	list := make([]Fields, 0, len(messages))
	for _, m := range messages {
		list = append(list, Of(m))
	}
	return list
}

func valueOf(field protoreflect.FieldDescriptor, value protoreflect.Value) any {
	if !field.IsList() {
		return single(field, value)
	}
	list := make([]any, 0, value.List().Len())
	for i := range value.List().Len() {
		list = append(list, single(field, value.List().Get(i)))
	}
	return list
}

func single(field protoreflect.FieldDescriptor, value protoreflect.Value) any {
	switch field.Kind() {
	case protoreflect.EnumKind:
		return wordOf(field.Enum(), value.Enum())
	case protoreflect.MessageKind:
		switch m := value.Message().Interface().(type) {
		case *timestamppb.Timestamp:
			return m.AsTime().Format(time.RFC3339Nano)
		case *durationpb.Duration:
			return m.AsDuration().String()
		default:
			return Of(m)
		}
	default:
		return value.Interface()
	}
}

// Word returns an enum's value without the prefix and in small letters, such as
// rolling_back; "" if it is unspecified.
func Word(e protoreflect.Enum) string { return wordOf(e.Descriptor(), e.Number()) }

func wordOf(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) string {
	value := enum.Values().ByNumber(number)
	switch {
	case number == 0:
		return ""
	case value == nil: // of a newer server
		return "unknown"
	}
	// buf lint keeps the rule: each value begins with its enum's name.
	prefix := strings.TrimSuffix(string(enum.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), prefix))
}
