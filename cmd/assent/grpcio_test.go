package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// A client that others wrote speaks to the server: that of gRPC for Python, which is
// C++ below.
func TestPythonsGRPC(t *testing.T) {
	capability.Need(t, capability.Python, capability.GRPCIO)
	t.Parallel()
	a, b := startExample(t, "python", "ann=100"), startExample(t, "python", "bob=100")
	api := serveExamples(t, a, b)
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, assentv1.File_assent_v1_transaction_proto, healthv1.File_grpc_health_v1_health_proto,
	} {
		addFile(set, seen, file)
	}
	encoded, err := proto.Marshal(set)
	require.NoError(t, err)
	descriptors := filepath.Join(t.TempDir(), "descriptors")
	require.NoError(t, os.WriteFile(descriptors, encoded, 0o600))

	c := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/grpcio.py", descriptors, strings.TrimPrefix(api, "http://"))
	c.Stderr = os.Stderr
	output, err := c.Output()
	require.NoError(t, err, "%s", output)
	want := []string{
		`Begin \{'transactionId': '(\w+-\w+)'\}`,
		`Enlist \{.*'xid': 'examples:.*:0'.*`,
		`Enlist \{.*'number': 1.*`,
		`Commit \{'state': 'STATE_COMMITTED'\}`,
		`Commit \{'state': 'STATE_COMMITTED'\}`,
		`Rollback FAILED_PRECONDITION \{'reason': 'ERROR_REASON_COMMITTED', .*'decision': 'DECISION_COMMIT'.*`,
		`Submit ABORTED \{'reason': 'ERROR_REASON_ROLLED_BACK', .*'decision': 'DECISION_ROLLBACK'.*insufficient funds.*`,
		`Session \{'answers': \[\{'id': '7', 'submit': \{'transactionId': '.*', 'state': 'STATE_COMMITTED'\}\}\]\}`,
		`Check \{'status': 'SERVING'\}`,
		`Watch \{'event': \{.*'EVENT_KIND_DECIDED'.*'DECISION_COMMIT'.*`,
		`Watch \{'event': \{.*'EVENT_KIND_FINISHED'.*'OUTCOME_COMMITTED'.*`,
	}
	require.Regexp(t, regexp.MustCompile(`^`+strings.Join(want, `\n`)+`\n$`), string(output))
	a.has(t, "ann", 71)
	b.has(t, "bob", 129)
}

// addFile adds a file after those that it imports.
func addFile(set *descriptorpb.FileDescriptorSet, seen map[string]bool, file protoreflect.FileDescriptor) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		addFile(set, seen, file.Imports().Get(i).FileDescriptor)
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
