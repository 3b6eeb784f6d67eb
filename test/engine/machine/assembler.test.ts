import { describe, expect, it } from 'vitest'
import { Assembler } from '../../../src/engine/machine/assembler.ts'
import { at, r8, r12, r13, r15, rax, rbp, rbx, rcx, rsp } from '../../../src/engine/machine/operands.ts'

const bytesOf = (write: (a: Assembler) => void): string => {
  const a = new Assembler()
  write(a)
  return Buffer.from(a.finish()).toString('hex')
}

describe('the assembler', () => {
  // The bytes are what GNU's disassembler reads as the instruction in the title.
  it.each<[title: string, write: (a: Assembler) => void, bytes: string]>([
    ['mov rax, [rbp]', (a) => a.mov(rax, at(rbp)), '488b4500'],
    ['mov r13, [r12 + 8]', (a) => a.mov(r13, at(r12, 8)), '4d8b6c2408'],
    ['mov [rsp + 16], r15', (a) => a.mov(at(rsp, 16), r15), '4c897c2410'],
    ['mov eax, [r15 + 1000]', (a) => a.mov32(rax, at(r15, 1000)), '418b87e8030000'],
    ['mov r8, -5', (a) => a.movNumber(r8, -5), '49c7c0fbffffff'],
    ['lea rax, [rbx + 4 r12 + 64]', (a) => a.lea(rax, at(rbx, 64, r12, 4)), '4a8d44a340'],
    ['add r12, 4096', (a) => a.addNumber(r12, 4096), '4981c400100000'],
    ['imul r8, rcx, 640', (a) => a.imul(r8, rcx, 640), '4c69c180020000'],
    ['dec qword [rsp + 8]', (a) => a.dec(at(rsp, 8)), '48ff4c2408'],
    ['lock xadd [r15 + 4], r8d', (a) => a.lockXadd32(at(r15, 4), r8), 'f0450fc14704'],
    ['kandnw k1, k2, k3', (a) => a.kandn(1, 2, 3), 'c4e16c42cb'],
    [
      'vfmadd231ps zmm31, zmm17, [r13 + r15 + 512]{1to16}',
      (a) => a.v('fmadd231ps', 31, 17, at(r13, 512, r15), { repeat: true }),
      '62027550b8bc3d00020000',
    ],
    [
      'vmovups zmm5{k1}{z}, [r8 + 128]',
      (a) => a.v1('movups', 5, at(r8, 128), { mask: 1, zero: true }),
      '62d17cc9106802',
    ],
    ['vpmovdb [rax + 16]{k2}, zmm17', (a) => a.vstore('pmovdb', at(rax, 16), 17, { mask: 2 }), '62e27e4a314801'],
    ['vgatherdps zmm1{k2}, [r8 + 4 zmm20 + 16]', (a) => a.vgather(1, r8, 20, 4, 16, 2), '62d27d42924ca004'],
    ['vcmpps k3{k1}, zmm17, zmm4, 17', (a) => a.vcmp('cmpps', 3, 17, 4, 17, 1), '62f17441c2dc11'],
    ['vpslld zmm17, zmm5, 23', (a) => a.vshift('left', 17, 5, 23), '62f1754072f517'],
  ])('writes %s', (_, write, bytes) => {
    expect(bytesOf(write)).toBe(bytes)
  })

  it('leads jumps forwards and backwards', () => {
    const bytes = bytesOf((a) => {
      const [begin, end] = [a.here(), a.label()]
      a.jump('e', end)
      a.jmp(begin)
      a.bind(end)
      a.ret()
    })
    expect(bytes).toBe('0f8405000000e9f5ffffffc3')
  })

  it('refuses a jump to nowhere, and places beyond what an instruction can hold', () => {
    expect(() => bytesOf((a) => a.jmp(a.label()))).toThrow('a jump leads nowhere')
    expect(() => bytesOf((a) => a.mov(rax, at(rbx, 2 ** 31)))).toThrow('beyond 2 GB')
  })
})
