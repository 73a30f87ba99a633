"""`dlm_kernels.unmask.draws` on the device, bit for bit: see there for what the numbers mean."""

# Triton infers types from the traced code; annotations of the jitted functions would say nothing true.
import triton
import triton.language as tl

PRIME = tl.constexpr(2**31 - 1)
PRIME_BITS = tl.constexpr(31)
SALT_1 = tl.constexpr(1013904223)
SALT_2 = tl.constexpr(1597334677)


@triton.jit
def remainder(x):
    """x mod 2^31 - 1 for int64 0 <= x < 2^62, without a division: 2^31 is 1 modulo the prime, so the upper bits are added to the lower."""
    x = (x & PRIME) + (x >> PRIME_BITS)  # below 2^32
    x = (x & PRIME) + (x >> PRIME_BITS)  # at most the prime + 1
    return tl.where(x >= PRIME, x - PRIME, x)


@triton.jit
def scramble(x):
    """x -> x^5 mod p."""
    x = remainder(x)
    square = remainder(x * x)
    return remainder(remainder(square * square) * x)


@triton.jit
def position_keys(seed, step, position):
    """Two numbers below p for a window position; int64 all. `%` and `//` cut towards zero here, as np.fmod does there."""
    low = seed % PRIME
    high = ((seed - low) // PRIME) % PRIME
    state = scramble(scramble(low + PRIME + SALT_1) + high + PRIME)
    state = scramble(state + step)
    state = scramble(state + position)
    first = scramble(state + SALT_2)
    return first, scramble(first + SALT_1)


@triton.jit
def uniform(first, second, token):
    """float32 strictly between 0 and 1, one per token id."""
    state = scramble(first + token)
    state = scramble(state + second)
    return ((state >> 8).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 23 bits; 2^-23


@triton.jit
def gumbel_noise(first, second, token):
    """Standard Gumbel noise, one per token id."""
    return -tl.log(-tl.log(uniform(first, second, token)))
