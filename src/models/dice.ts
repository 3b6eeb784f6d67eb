// The dice live on the floor of the loader, which throws them too.
export { type Dice, rollDice } from '../data/dice.ts'
