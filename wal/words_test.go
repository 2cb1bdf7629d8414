package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// R10: an operator's word is durable when it is told, and stays through crashes and
// takeovers until a newer one comes.
func TestR10WordsSurviveCrashesAndTakeovers(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	require.Zero(t, log.Words())
	former := log.Term()
	require.NoError(t, log.Quarantine(t.Context(), "restored from Monday's backup"))
	said := log.Words()
	require.True(t, said.Quarantined())
	require.Equal(t, "restored from Monday's backup", said.Quarantine.Reason)

	for range 3 { // of each only what is durable
		memory = memory.Clone()
		log, _ = open(t, memory, config)
		require.Equal(t, said, log.Words())
	}
	require.NoError(t, log.Accept(t.Context(), "compared with both banks"))
	said = log.Words()
	require.False(t, said.Quarantined())
	require.GreaterOrEqual(t, said.Accepted(), former)
	require.Less(t, said.Accepted(), log.Term(), "of the own term nothing is lost")

	memory = memory.Clone()
	log, _ = open(t, memory, config)
	require.Equal(t, said, log.Words())
	require.NoError(t, log.Quarantine(t.Context(), "again"))
	require.True(t, log.Words().Quarantined())
	require.Equal(t, said.Acceptance, log.Words().Acceptance)
}

// R9, R10: an Open that was interrupted leaves the words in two terms. Whatever was
// said last counts, and Read sees what Open would.
func TestR10WordsMergeOverInterruptedOpens(t *testing.T) {
	for n, interrupted := 0, true; interrupted; n++ {
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		require.NoError(t, log.Quarantine(t.Context(), "restored"))
		memory = memory.Clone()
		interrupted = interruptOpen(t, memory, config, n, true)
		require.True(t, readMemory(t, memory).Words.Quarantined(), "call %d", n)
		log, _ = open(t, memory.Clone(), config)
		require.True(t, log.Words().Quarantined(), "call %d", n)

		log, _ = open(t, memory, config)
		require.NoError(t, log.Accept(t.Context(), "compared"))
		want := log.Words()
		memory = memory.Clone()
		interruptOpen(t, memory, config, n, false)
		require.Equal(t, want, readMemory(t, memory).Words, "call %d", n)
		log, _ = open(t, memory, config)
		require.Equal(t, want, log.Words(), "call %d", n)
		require.Less(t, n, 100)
	}
}

// R9, R10: of two terms that are taken over together the older one may hold the newer
// word.
func TestR10TheNewestWordCountsWhereverItIs(t *testing.T) {
	memory := waltest.NewMemory()
	older, _ := open(t, memory, config)
	newer, _ := open(t, memory, config)
	require.Less(t, older.Term(), newer.Term())
	require.NoError(t, older.Quarantine(t.Context(), "restored"))
	want := older.Words()
	memory = memory.Clone()
	require.Equal(t, want, readMemory(t, memory).Words)
	log, _ := open(t, memory, config)
	require.Equal(t, want, log.Words())
}

// Words are kept although the segment they were first written to is dropped.
func TestWordsOutliveTheirSegment(t *testing.T) {
	config := config
	config.Retention = -1
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	require.NoError(t, log.Accept(t.Context(), "compared"))
	endMany(t, log)
	require.Less(t, log.Stats().Segments, 150, "segments were dropped")
	want := log.Words()
	require.Equal(t, want, readMemory(t, memory).Words)
}

// R10, R13: in quarantine every outcome is kept, for the operator to compare, and
// forgotten as usual once the log is accepted.
func TestR10NothingIsForgottenInQuarantine(t *testing.T) {
	config := config
	config.Retention = -1
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	require.NoError(t, log.Quarantine(t.Context(), "restored"))
	endMany(t, log)
	require.Greater(t, log.Stats().Segments, 200)
	require.NoError(t, log.Close(t.Context()))
	log, inherited := open(t, memory, config)
	require.Len(t, inherited, 200)
	require.NoError(t, log.Accept(t.Context(), "compared"))
	require.NoError(t, log.Close(t.Context()))
	_, inherited = open(t, memory, config)
	require.Empty(t, inherited)
}

// endMany begins and ends 200 transactions, each in a segment of its own.
func endMany(t *testing.T, log *wal.Log) {
	t.Helper()
	for n := range uint64(200) {
		tx := log.NewPlace(id(log.Term(), n+1))
		force(t, log, tx, begun(tx), decided(tx), completed(tx))
	}
}

// A word is durable when it is told, not before; after a failure nobody is told.
func TestR5AWordHasThreeAnswersToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		log, _ := openStore(t, store, config)
		store.close()
		answer := make(chan error)
		go func() { answer <- log.Quarantine(t.Context(), "restored") }()
		synctest.Wait()
		require.Zero(t, log.Words(), "not durable yet")
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, log.Accept(impatient, "compared"), context.DeadlineExceeded)
		store.gate <- errors.New("disk on fire")
		require.ErrorIs(t, <-answer, wal.ErrUnknown)
		require.Zero(t, log.Words())
		require.ErrorIs(t, log.Accept(t.Context(), "compared"), wal.ErrPoisoned)
	})
}

func TestWordsThatAreRefused(t *testing.T) {
	log, _ := open(t, waltest.NewMemory(), config)
	require.ErrorContains(t, log.Accept(t.Context(), ""), "reason is missing")
	require.ErrorContains(t, log.Quarantine(t.Context(), strings.Repeat("x", record.MaxReason+1)), "over the limit")
	require.NoError(t, log.Close(t.Context()))
	require.ErrorIs(t, log.Quarantine(t.Context(), "late"), wal.ErrClosed)
}

// memorySource reads what a process would find that starts now.
type memorySource struct {
	wal.Store
	t     testing.TB
	terms []participant.Term
}

func (s *memorySource) Terms() []participant.Term { return s.terms }

func readMemory(t testing.TB, memory *waltest.Memory) *wal.Contents {
	t.Helper()
	s := &memorySource{Store: memory.Clone().Open(), t: t}
	defer func() { require.NoError(t, s.Close()) }()
	var err error
	s.terms, _, err = s.Orphans(t.Context())
	require.NoError(t, err)
	for _, term := range s.terms { // only then may it be scanned
		_, err := s.TakeOver(t.Context(), term, "reader")
		require.NoError(t, err)
	}
	c, err := wal.Read(t.Context(), s)
	require.NoError(t, err)
	return c
}

// Read finds what Open finds.
func TestReadFindsWhatOpenFinds(t *testing.T) {
	config := config
	config.Retention = 24 * time.Hour
	memory := inheritanceOfTwo(t, config)
	c := readMemory(t, memory)
	log, inherited := open(t, memory, config)
	require.Equal(t, config.Domain, c.Domain)
	require.Equal(t, log.Terms()[:len(c.Terms)], c.Terms)
	require.Len(t, c.Transactions, len(inherited))
	for i, tx := range c.Transactions {
		require.Equal(t, inherited[i].State, tx)
	}
}

// R10, R13: of what an old log may have lost nobody is told that it was rolled back.
func TestR13WhatAnAcceptedLogLostIsNotRolledBack(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	former, foreign := log.Term(), participant.NewTerm(9, 9)
	tx := log.NewPlace(id(former, 5))
	force(t, log, tx, begun(tx))
	memory = memory.Clone()
	log, _ = open(t, memory, config)
	require.Equal(t, wal.AbsentUndecided, log.Absent(id(former, 6)))
	require.Equal(t, wal.AbsentForeign, log.Absent(id(foreign, 1)))
	require.NoError(t, log.Quarantine(t.Context(), "restored"))
	require.Equal(t, wal.AbsentLost, log.Absent(id(foreign, 1)))
	require.NoError(t, log.Accept(t.Context(), "compared"))
	for range 2 { // and by the next coordinator
		require.Equal(t, wal.AbsentLost, log.Absent(id(former, 6)))
		require.Equal(t, wal.AbsentLost, log.Absent(id(foreign, 1)))
		require.Equal(t, wal.AbsentUndecided, log.Absent(id(former, 4)), "the log knew that far")
		require.Equal(t, wal.AbsentNeverBegun, log.Absent(id(log.Term(), 1)))
		memory = memory.Clone()
		log, _ = open(t, memory, config)
	}
}
