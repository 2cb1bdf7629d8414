"""Calls a server by Debian's grpcio, with messages made from descriptors.

    grpcio.py DESCRIPTORS HOST:PORT

DESCRIPTORS is a FileDescriptorSet. Each line that is printed is what a call answered,
or its status and the ErrorInfo in it.
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

files = descriptor_pb2.FileDescriptorSet.FromString(open(sys.argv[1], "rb").read())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)
factory = message_factory.MessageFactory(pool)


def message(type_name, **fields):
    return json_format.ParseDict(fields, factory.GetPrototype(pool.FindMessageTypeByName(type_name))())


def show(what, answer):
    print(what, json_format.MessageToDict(answer))


class Service:
    def __init__(self, channel, name):
        self.channel, self.service = channel, pool.FindServiceByName(name)

    def method(self, name):
        method = self.service.methods_by_name[name]
        return (
            "/%s/%s" % (self.service.full_name, name),
            {"request_serializer": lambda m: m.SerializeToString(),
             "response_deserializer": factory.GetPrototype(method.output_type).FromString},
            method.input_type.full_name)

    def call(self, method_name, **fields):
        path, codecs, request = self.method(method_name)
        try:
            answer = self.channel.unary_unary(path, **codecs)(message(request, **fields), timeout=60)
        except grpc.RpcError as e:
            details = dict(e.trailing_metadata()).get("grpc-status-details-bin", b"")
            status = factory.GetPrototype(pool.FindMessageTypeByName("google.rpc.Status")).FromString(details)
            info = factory.GetPrototype(pool.FindMessageTypeByName("assent.v1.ErrorInfo"))()
            status.details[0].Unpack(info)
            show("%s %s" % (method_name, e.code().name), info)
            return None
        show(method_name, answer)
        return answer


# Not google/rpc/status.proto itself, which the server does not link: its two fields.
pool.Add(json_format.ParseDict({
    "name": "google/rpc/status.proto", "package": "google.rpc", "syntax": "proto3", "dependency": ["google/protobuf/any.proto"],
    "messageType": [{"name": "Status", "field": [
        {"name": "code", "number": 1, "label": "LABEL_OPTIONAL", "type": "TYPE_INT32"},
        {"name": "message", "number": 2, "label": "LABEL_OPTIONAL", "type": "TYPE_STRING"},
        {"name": "details", "number": 3, "label": "LABEL_REPEATED", "type": "TYPE_MESSAGE", "typeName": ".google.protobuf.Any"}]}],
}, descriptor_pb2.FileDescriptorProto()))

with grpc.insecure_channel(sys.argv[2]) as channel:
    transactions = Service(channel, "assent.v1.TransactionService")
    path, codecs, request = transactions.method("Watch")
    events = channel.unary_stream(path, **codecs)(message(request))

    begun = transactions.call("Begin", name="from Python").transaction_id
    transactions.call("Enlist", transactionId=begun, enlistment={"participant": "bank_a", "text": "ann -30"})
    transactions.call("Enlist", transactionId=begun, enlistment={"participant": "bank_b", "text": "bob 30"})
    transactions.call("Commit", transactionId=begun)
    transactions.call("Commit", transactionId=begun)
    transactions.call("Rollback", transactionId=begun)
    transactions.call("Submit", enlistments=[{"participant": "bank_a", "text": "ann -71"}, {"participant": "bank_b", "text": "bob 71"}])

    path, codecs, request = transactions.method("Session")
    session = channel.stream_stream(path, **codecs)(iter([message(request, requests=[
        {"id": "7", "submit": {"enlistments": [{"participant": "bank_a", "text": "ann 1"}, {"participant": "bank_b", "text": "bob -1"}]}},
    ])]))
    show("Session", next(session))

    health = Service(channel, "grpc.health.v1.Health")
    health.call("Check")

    for event in events:
        kind = event.event.kind
        if event.event.transaction_id == begun and kind in (4, 6):
            show("Watch", event)
        if event.event.transaction_id == begun and kind == 6:
            break
    events.cancel()
