-- One call for one branch. A script is atomic: it runs alone, and what it writes
-- reaches the append-only file as one transaction. But an error does not undo what
-- was written before it, so everything is checked first.
--
-- KEYS: the participant's seven, then the keys that the operations write.
-- ARGV: the eight below, then operations: for each the number of its arguments and
-- the arguments, as participant/redis/operation.go writes them.
--
-- Returns what the branch is now, or why not, and up to two words on it.

local identity, terms, used, pending, scratch, branch, staged = unpack(KEYS, 1, 7)
local verb, xid, term, uuid, epoch, expected, retention, session = unpack(ARGV, 1, 8)
local FIRST_KEY, FIRST_OPERATION = 8, 9

-- A command that is not permitted half way would leave half a change.
local own = {
	{'GET', identity}, {'HGET', terms, term}, {'HSET', terms, term, ''}, {'ZSCORE', used, term}, {'ZADD', used, 0, term},
	{'ZADD', pending, 0, xid}, {'ZREM', pending, xid}, {'SET', scratch, ''}, {'INCRBY', scratch, 0}, {'DEL', scratch},
	{'HSET', branch, 'state', ''}, {'HGET', branch, 'state'}, {'EXPIRE', branch, 1}, {'RPUSH', staged, ''}, {'LRANGE', staged, 0, -1},
	{'TIME'}, {'TYPE', scratch}, {'XINFO', 'STREAM', scratch},
}
if verb == 'probe' then -- what lists and forgets, too
	for _, command in ipairs({
		{'ZRANGE', pending, '-', '+', 'BYLEX'}, {'HGETALL', terms}, {'TTL', branch},
		{'ZRANGEBYSCORE', used, 0, 0}, {'HDEL', terms, term}, {'ZREM', used, term},
	}) do
		own[#own + 1] = command
	end
end
for _, command in ipairs(own) do
	if not redis.acl_check_cmd(unpack(command)) then
		return {'forbidden', command[1], command[2] or ''}
	end
end
if verb == 'probe' then
	return {'able'}
end

if expected ~= '' and redis.call('GET', identity) ~= expected then
	return {'elsewhere'}
end

-- R9: a call of a coordinator whose term was taken over changes nothing.
local seen = redis.call('HGET', terms, term)
local seenEpoch, seenUUID = '', ''
if seen then
	seenEpoch, seenUUID = seen:match('^(%d+) (%x+)$')
end
if epoch < seenEpoch then
	return {'stale', seenEpoch}
end

-- remember keeps the term's epoch (R9) and highest transaction (R10).
local function remember()
	local now = tonumber(redis.call('TIME')[1])
	local value = epoch .. ' ' .. (uuid > seenUUID and uuid or seenUUID)
	if value ~= seen then
		redis.call('HSET', terms, term, value)
	end
	if now - tonumber(redis.call('ZSCORE', used, term) or '0') > 3600 then
		redis.call('ZADD', used, now, term)
	end
end

local function finish(state)
	redis.call('DEL', staged)
	redis.call('ZREM', pending, xid)
	redis.call('DEL', branch)
	redis.call('HSET', branch, 'state', state)
	redis.call('EXPIRE', branch, retention)
	remember()
	return {state}
end

local function decode(flat, i)
	local operations = {}
	while i <= #flat do
		local n = tonumber(flat[i])
		operations[#operations + 1] = {unpack(flat, i + 1, i + n)}
		i = i + n + 1
	end
	return operations
end

local function failed(answer)
	return type(answer) == 'table' and answer.err
end

-- exhausted reports whether the stream's next id may be one that there is not.
local function exhausted(stream)
	local info = redis.call('XINFO', 'STREAM', stream)
	for i = 1, #info, 2 do
		if info[i] == 'last-generated-id' then
			return info[i + 1]:match('^18446744073709551615%-') ~= nil
		end
	end
end

local kinds = {SET = 'string', INCRBY = 'string', HSET = 'hash', XADD = 'stream'}

-- unfit returns why the operations from this one on can't all be applied to the
-- keys as they are, as far as that can be told by reading.
local function unfit(operations, from)
	local declared, kind = {}, {}
	for i = FIRST_KEY, #KEYS do
		declared[KEYS[i]] = true
	end
	for i = from, #operations do
		local operation = operations[i]
		local command, key = operation[1], operation[2]
		if not declared[key] then
			return {'undeclared', key}
		end
		if not redis.acl_check_cmd(unpack(operation)) then
			return {'unfit', key, 'the user of this connection may not ' .. command .. ' it'}
		end
		local held = kind[key] or redis.call('TYPE', key).ok
		if held ~= 'none' and held ~= kinds[command] then
			return {'unfit', key, 'it holds a ' .. held .. ', and ' .. command .. ' needs a ' .. kinds[command]}
		end
		if held == 'stream' and not kind[key] and exhausted(key) then
			return {'unfit', key, 'the stream has used up its ids'}
		end
		kind[key] = kinds[command]
	end
end

-- uncountable returns why an INCRBY from this one on would fail. The server's own
-- arithmetic tells, on a copy: numbers have 64 bits, Lua's 53. It always ends with a
-- DEL, a write that is permitted when the memory is used up, and permits all that
-- follow: what was prepared can be committed (R6).
local function uncountable(operations, from)
	local keys, on = {}, {}
	for i = from, #operations do
		local command, key = operations[i][1], operations[i][2]
		if command == 'INCRBY' and not on[key] then
			keys[#keys + 1], on[key] = key, {}
		end
	end
	for i = from, #operations do
		local same = on[operations[i][2]]
		if same then
			same[#same + 1] = operations[i]
		end
	end
	local result
	for _, key in ipairs(keys) do
		redis.call('DEL', scratch)
		local value = redis.call('GET', key)
		if value then
			redis.call('SET', scratch, value)
		end
		for _, operation in ipairs(on[key]) do
			local answer = redis.pcall(operation[1], scratch, operation[3])
			if failed(answer) then
				result = result or {'unfit', key, answer.err}
			end
		end
	end
	redis.call('DEL', scratch)
	return result
end

local function prepare()
	local state = redis.call('HGET', branch, 'state')
	if state == 'prepared' and epoch > seenEpoch then
		remember()
	end
	if state then
		return {state}
	end
	if session == '' then
		-- A no that stays one, though the process that has the operations may ask, too.
		finish('rolled back')
		return {'lost'}
	end
	local operations = decode(ARGV, FIRST_OPERATION)
	if #operations == 0 then
		remember()
		return {'empty'}
	end
	local reason = unfit(operations, 1)
	if not reason then
		-- The first write, and one that is refused when the memory is used up. After
		-- it nothing is refused any more for that.
		redis.call('HSET', branch, 'state', 'prepared', 'operations', #operations)
		reason = uncountable(operations, 1)
	end
	if reason then
		finish('rolled back')
		return reason
	end
	for i = FIRST_OPERATION, #ARGV, 4000 do
		redis.call('RPUSH', staged, unpack(ARGV, i, math.min(i + 3999, #ARGV)))
	end
	redis.call('ZADD', pending, 0, xid)
	remember()
	return {'prepared'}
end

local function commit()
	local state = redis.call('HGET', branch, 'state')
	if not state then
		remember()
		return {'unknown'}
	end
	if state ~= 'prepared' then
		return {state}
	end
	local operations = decode(redis.call('LRANGE', staged, 0, -1), 1)
	if #operations ~= tonumber(redis.call('HGET', branch, 'operations')) then
		return {'damaged'}
	end
	local applied = tonumber(redis.call('HGET', branch, 'applied') or '0')
	local reason = unfit(operations, applied + 1) or uncountable(operations, applied + 1)
	if reason then
		return {reason[1] == 'unfit' and 'blocked' or reason[1], reason[2], reason[3]}
	end
	for i = applied + 1, #operations do
		local answer = redis.pcall(unpack(operations[i]))
		if failed(answer) then
			-- Nothing known leads here. A repeated commit goes on at this operation, so
			-- that none is applied twice.
			redis.call('HSET', branch, 'applied', i - 1)
			return {'blocked', operations[i][2], answer.err}
		end
	end
	return finish('committed')
end

local function rollback()
	if redis.call('HGET', branch, 'state') == 'committed' then
		return {'committed'}
	end
	return finish('rolled back')
end

local function onePhase()
	if not redis.call('HGET', branch, 'state') and session ~= '' and #ARGV < FIRST_OPERATION then
		return finish('committed') -- of nothing; kept, so that a repeated call gets the same answer
	end
	local answer = prepare()
	if answer[1] == 'prepared' then
		return commit()
	end
	return answer
end

local verbs = {prepare = prepare, commit = commit, rollback = rollback, ['one-phase'] = onePhase}
return verbs[verb]()
