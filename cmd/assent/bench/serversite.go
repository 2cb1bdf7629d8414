package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
)

// site is a server and the services that take part, each in a process, and the load.
type site struct {
	services, server *process
	plain            *plain

	url   string
	web   *http.Client
	body  []byte // of a Submit as JSON
	unary *client.Client
	// session sends what all clients ask on one stream.
	session     *client.Client
	enlistments []coordinator.Enlistment
}

func (s *site) open(ctx context.Context, dir string) (err error) {
	if s.services, err = startProcess(roleServices); err != nil {
		return err
	}
	listening, err := s.services.ask(ctx, order{})
	if err != nil {
		return err
	}
	if s.server, err = startProcess(roleServer); err != nil {
		return err
	}
	serving, err := s.server.ask(ctx, order{Services: listening.URL, Dir: dir})
	if err != nil {
		return err
	}
	s.url = serving.URL
	if _, err := s.services.ask(ctx, order{Attach: s.url}); err != nil {
		return err
	}
	if s.unary, err = client.New(client.Config{URL: s.url}); err != nil {
		return err
	}
	if s.session, err = client.New(client.Config{URL: s.url, Session: true}); err != nil {
		return err
	}
	for _, name := range attachedNames {
		s.enlistments = append(s.enlistments, coordinator.Enlistment{Participant: idle(name)})
	}
	s.web = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxServerClients}}
	s.body = fmt.Appendf(nil, `{"enlistments":[{"participant":%q},{"participant":%q}]}`, calledNames[0], calledNames[1])
	s.plain, err = openPlain(dir)
	return err
}

func (s *site) close() (err error) {
	for _, c := range []*client.Client{s.unary, s.session} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	if s.web != nil {
		s.web.CloseIdleConnections()
	}
	// The server first: it may still have something to say to the services.
	err = errors.Join(err, s.server.close(), s.services.close())
	if s.plain != nil {
		err = errors.Join(err, s.plain.close())
	}
	return err
}

// submitHTTP is a transaction as a program in any language asks for it.
func (s *site) submitHTTP(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/assent.v1.TransactionService/Submit", bytes.NewReader(s.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.web.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("STATE_COMMITTED")) {
		return fmt.Errorf("the server answers %s: %s", answer.Status, text)
	}
	return nil
}

func (s *site) submitGRPC(ctx context.Context) error {
	_, err := s.unary.Submit(ctx, s.enlistments)
	return err
}

func (s *site) submitSession(ctx context.Context) error {
	_, err := s.session.Submit(ctx, s.enlistments)
	return err
}
