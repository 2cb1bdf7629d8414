package waltest

// reserve is how much the cases keep.
const reserve = 2 << 20

func reserved(h *harness) {
	s := h.open()
	stream := h.term(s)
	h.append(stream, 1, Segment(1))
	have, err := stream.Reserve(reserve)
	h.must("reserve", err)
	if have < reserve {
		h.Fatalf("reserved %d bytes, there are %d", reserve, have)
	}
	free := h.Fill(h.T)
	// Small segments, whole groups, and records as large as they get.
	segments := [][]byte{Segment(1)}
	for bytes := 0; ; {
		n := len(segments) + 1
		sizes := [][]int{{40}, {4000, 4000, 4000}, make([]int, 64), {1900}}[n%4]
		segment := Segment(n, sizes...)
		if bytes += len(segment); bytes > reserve {
			break
		}
		h.append(stream, uint64(n), segment)
		segments = append(segments, segment)
	}
	h.Crash(h.T, s)
	s = h.open() // still full
	h.holds(s, stream.Term(), 1, segments...)
	free()
}

func fullThenNot(h *harness) {
	s := h.open()
	stream := h.term(s)
	_, err := stream.Reserve(reserve)
	h.must("reserve", err)
	free := h.Fill(h.T)
	const more = 100 * reserve
	if have, err := stream.Reserve(more); err == nil || have >= more {
		h.Fatalf("reserved %d bytes in a full store, which says it has %d: %v", more, have, err)
	}
	have, err := stream.Reserve(reserve)
	h.must("reserve what there is", err)
	if have < reserve {
		h.Fatalf("reserved %d bytes, there are %d", reserve, have)
	}
	free()
	// It may take the driver a moment to look again.
	for have, err = stream.Reserve(reserve * 4); err != nil; have, err = stream.Reserve(reserve * 4) {
		h.must("wait for space", h.ctx().Err())
	}
	if have < reserve*4 {
		h.Fatalf("reserved %d bytes, there are %d", reserve*4, have)
	}
	h.append(stream, 1, Segment(1))
}
