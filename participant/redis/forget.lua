-- Lets finished branches go after the retention, and forgets terms that nobody used
-- for the longest one and of which nothing is prepared.
--
-- KEYS: terms, used, pending, then branches. ARGV: retention, longest retention.

local terms, used, pending = unpack(KEYS, 1, 3)
local retention, longest = tonumber(ARGV[1]), tonumber(ARGV[2])

for i = 4, #KEYS do
	local state = redis.call('HGET', KEYS[i], 'state')
	if state and state ~= 'prepared' and redis.call('TTL', KEYS[i]) > retention then
		redis.call('EXPIRE', KEYS[i], retention)
	end
end

-- branch.lua notes once an hour that a term is used.
local since = tonumber(redis.call('TIME')[1]) - longest - 3600
for _, term in ipairs(redis.call('ZRANGEBYSCORE', used, '-inf', since, 'LIMIT', 0, 64)) do
	-- ';' is the byte after ':': the range is exactly the term's branches.
	if #redis.call('ZRANGE', pending, '[' .. term .. ':', '(' .. term .. ';', 'BYLEX', 'LIMIT', 0, 1) == 0 then
		redis.call('HDEL', terms, term)
		redis.call('ZREM', used, term)
	end
end
return 'forgotten'
