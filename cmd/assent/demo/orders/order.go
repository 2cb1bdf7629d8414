package orders

import (
	"fmt"
	"math/rand/v2"
)

// The participants, named after what they are.
const (
	postgresName = "postgres"
	mariadbName  = "mariadb"
	natsName     = "nats"
)

var (
	warehouseNames   = []string{postgresName, mariadbName}
	participantNames = []string{postgresName, mariadbName, natsName}
)

// items are what both warehouses keep.
var items = []string{"chair", "clock", "lamp", "mirror", "rug", "shelf", "table", "vase"}

// openingStock is how many pieces of each item a warehouse begins with.
const openingStock = 100

// order moves pieces of an item from one warehouse to the other.
type order struct {
	Item   string `json:"item"`
	Pieces int64  `json:"pieces"`
	From   string `json:"from"`
	To     string `json:"to"`
}

func (o order) String() string {
	return fmt.Sprintf("%s x %d, %s -> %s", o.Item, o.Pieces, o.From, o.To)
}

// moved is what the order adds to a warehouse's stock.
func (o order) moved(warehouse string) int64 {
	if warehouse == o.From {
		return -o.Pieces
	}
	return o.Pieces
}

// tooMany is what no warehouse can ever have of an item.
const tooMany = 2*openingStock + 1

// refusedEvery is how many orders there are for one that asks for too many pieces.
const refusedEvery = 10

// newOrders makes so many orders. One in refusedEvery asks for more than there is.
func newOrders(random *rand.Rand, n int) []order {
	orders := make([]order, n)
	for i := range orders {
		o := order{Item: items[random.IntN(len(items))], Pieces: 1 + random.Int64N(5), From: postgresName, To: mariadbName}
		if random.IntN(2) == 1 {
			o.From, o.To = o.To, o.From
		}
		if i%refusedEvery == refusedEvery-1 {
			o.Pieces += tooMany
		}
		orders[i] = o
	}
	return orders
}
