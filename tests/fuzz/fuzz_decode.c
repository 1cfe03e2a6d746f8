/* libFuzzer target: bytes as a plan and a reply to it, through all that ocirt-init does before a system call.
 *
 * The input's last two bytes are the reply's length; the machine is what the plan says, or every plan of another
 * machine would end at the first check. */
#include "../init/examine.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    size_t reply = 0;
    u32 machine = MACHINE_X86_64;

    if (size >= 2) {
        size -= 2;
        reply = (size_t)bytes[size] | (size_t)bytes[size + 1] << 8;
        if (reply > size)
            reply = size;
    }
    size_t plan = size - reply;
    if (plan >= 16)
        memcpy(&machine, bytes + 12, sizeof machine);
    examine(bytes, plan, machine, bytes + plan, reply);
    return 0;
}
